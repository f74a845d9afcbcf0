"""Sizes and names that the house does not allow."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "maas_gateway"
MODULES = sorted(SOURCES.rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
FORBIDDEN = frozenset(
    {
        "utils",
        "util",
        "helpers",
        "helper",
        "common",
        "misc",
        "base",
        "manager",
        "managers",
        "service",
        "services",
        "handler",
        "handlers",
        "processor",
        "processors",
        "data",
        "info",
    }
)
TERMS = frozenset({"data_keys", "DataKey", "service_account", "ServiceAccount"})
"""Terms of the field that hold a forbidden one: a data key (NIST, KMS), a service account (Google, Kubernetes)."""


def test_no_module_is_longer_than_one_reads() -> None:
    n_lines = {str(path.relative_to(SOURCES)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: n for name, n in n_lines.items() if n > MAX_MODULE_LINES} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    longer = {}
    for path in MODULES:
        name = str(path.relative_to(SOURCES))
        for function in _functions(path):
            n_lines = (function.end_lineno or 0) - function.lineno + 1
            if n_lines > MAX_FUNCTION_LINES:
                longer[name, function.name] = n_lines
    assert longer == {}


def test_no_module_or_class_has_a_name_that_says_nothing() -> None:
    found = []
    for path in MODULES:
        names = [path.stem if path.stem != "__init__" else path.parent.name]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names += [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        found += [f"{path.relative_to(SOURCES)}: {name}" for name in names if _says_nothing(name)]
    assert found == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("utils", True), ("key_manager", True), ("ModelInfo", True), ("HTTPHandler", True), ("dataplane", False)],
)
def test_names_are_judged_by_whole_words(name: str, expected: bool) -> None:  # noqa: FBT001  a table's column
    assert _says_nothing(name) is expected


def _says_nothing(name: str) -> bool:
    if any(term in name for term in TERMS):
        return False
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    return bool(FORBIDDEN & {word.lower() for word in words})


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
