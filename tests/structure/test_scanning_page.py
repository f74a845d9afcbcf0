"""The page about scanning names every rule by which a scanner refuses or notes something, and no other."""

import ast
import re
from pathlib import Path

from maas_gateway.scanning.catalogue import PLANS, UPLOADS

ROOT = Path(__file__).parents[2]
SCANNERS = ROOT / "src" / "maas_gateway" / "scanning"
REPORTS = {"Refusal", "Finding", "refuse", "_fault"}
RULE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
NO_RULES = {"tarfile", "tf2onnx", *UPLOADS, *PLANS, "plans", "refuse", "review", "note"}


def rules_of(source: str) -> set[str]:
    """Return the rules that a module reports: first arguments of reports, first members of (rule, place, sentence)."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in REPORTS:
            found |= _text(node.args[0] if node.args else None)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 3 and _is_sentence(node.elts[2]):
            found |= _text(node.elts[0])
    return {name for name in found if RULE.fullmatch(name)}


def _is_sentence(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or any(" " in text for text in _text(node))


def _text(node: ast.expr | None) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def test_page_names_every_rule_and_no_other() -> None:
    sources = [path.read_text() for path in SCANNERS.glob("*.py") if "schema" not in path.name]
    page = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)*)`", (ROOT / "docs" / "scanning.md").read_text()))
    assert set().union(*map(rules_of, sources)) - page == set()
    assert {name for name in page - NO_RULES if f'"{name}"' not in "".join(sources)} == set()
