"""What the documents say is what the code does: settings, errors, permissions, the README."""

import os
import re
from pathlib import Path

import pytest

from maas_gateway import errors
from maas_gateway.errors import GatewayError
from maas_gateway.permissions import Permission
from maas_gateway.policy.roles import ROLES
from maas_gateway.web.problems import STATUS
from structure.errors_page import errors_page, tree
from structure.settings_page import described, settings_page

ROOT = Path(__file__).parents[2]
PAGES = {"docs/settings.md": settings_page, "docs/errors.md": errors_page}
KINDS = [kind for _, kind in tree()]


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_current(name: str) -> None:
    page, path = PAGES[name](), ROOT / name
    if os.environ.get("TEST_MAAS_UPDATE_DOCS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == page, "run: TEST_MAAS_UPDATE_DOCS=1 make unit"


def test_every_setting_has_a_sentence() -> None:
    sentences = dict(described())
    assert len(sentences) > 30
    for name, sentence in sentences.items():
        assert sentence.strip().endswith("."), name


def test_every_error_has_a_status_by_its_branch() -> None:
    branches = GatewayError.__subclasses__()
    assert set(STATUS) == {kind for kind in branches if kind.__module__ == errors.__name__}
    assert all(400 <= status <= 599 for status in STATUS.values())


def test_every_error_has_a_slug_and_a_title_of_its_own() -> None:
    assert len(KINDS) > 30
    for kind in KINDS:
        assert {"slug", "title"} <= set(vars(kind)), kind
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug), kind
    assert len({kind.slug for kind in KINDS}) == len(KINDS)
    assert len({kind.title for kind in KINDS}) == len(KINDS)


def test_error_tree_is_drawn_as_it_is() -> None:
    drawn = set(re.findall(r"\b[A-Z][A-Za-z]+\b", (errors.__doc__ or "").partition("Rules:")[0]))
    assert {kind.__name__ for kind in KINDS} <= drawn


@pytest.mark.parametrize("permission", Permission)
def test_permission_is_given_by_a_role(permission: Permission) -> None:
    assert any(permission in given for given in ROLES.values())


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_makefile_explains_every_command_that_the_readme_names() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"serve", "test"} <= named <= explained
