"""Writes `docs/settings.md` from the settings themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

from maas_gateway.settings import CONFIG_VARIABLE, DELIMITER, PREFIX, Settings

_HEAD = f"""# Settings

Generated from `src/maas_gateway/settings/`; do not edit (`TEST_MAAS_UPDATE_DOCS=1 make unit` writes it anew).

A setting stands in a TOML file, which `--config` or `{CONFIG_VARIABLE}` names, or in an environment variable, which wins
over the file; options of the command line win over both. An unknown key or variable is refused. Lists and other
structures are written as JSON in a variable. No secret is a setting: where one is needed, the setting is a path.
"""


def settings_page() -> str:
    """Return the page."""
    schema = Settings.model_json_schema()
    parts = [_HEAD, "## At the top\n", _table("", _plain(schema["properties"]))]
    for name, prop in schema["properties"].items():
        if "$ref" in prop:
            group = schema["$defs"][prop["$ref"].rpartition("/")[2]]
            parts += [f"## `[{name}]`\n", f"{group['description']}\n", _table(name, group["properties"])]
    return "\n".join(parts)


def described() -> Iterator[tuple[str, str]]:
    """Yield each setting and each group with its sentence."""
    schema = Settings.model_json_schema()
    for name, prop in schema["properties"].items():
        if "$ref" not in prop:
            yield name, prop.get("description", "")
            continue
        group = schema["$defs"][prop["$ref"].rpartition("/")[2]]
        yield name, group.get("description", "")
        for inner, inner_prop in group["properties"].items():
            yield f"{name}.{inner}", inner_prop.get("description", "")


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: prop for name, prop in properties.items() if "$ref" not in prop}


def _table(group: str, properties: Mapping[str, Any]) -> str:
    lines = ["| name | variable | default | allowed | what |", "|---|---|---|---|---|"]
    for name, prop in properties.items():
        variable = PREFIX + (f"{group}{DELIMITER}{name}" if group else name).upper()
        sentence = " ".join(prop["description"].split()).replace("|", "\\|")
        lines.append(f"| `{name}` | `{variable}` | {_default(prop)} | {_allowed(prop)} | {sentence} |")
    return "\n".join(lines) + "\n"


def _default(prop: Mapping[str, Any]) -> str:
    value = prop["default"]
    if value is None:
        return "none"
    return "`[]`" if value == [] else f"`{value}`"


def _allowed(prop: Mapping[str, Any]) -> str:
    kinds = [kind for kind in prop.get("anyOf", [prop]) if kind.get("type") != "null"]
    (kind,) = kinds
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    least = f"{kind['minimum']:,} ≤ " if "minimum" in kind else ""
    least = f"{kind['exclusiveMinimum']:,} < " if "exclusiveMinimum" in kind else least
    most = f" ≤ {kind['maximum']:,}" if "maximum" in kind else ""
    names = {"string": "text", "array": "list of texts"}
    what = {"path": "path", "uri": "URL"}.get(kind.get("format", ""), names.get(kind["type"], kind["type"]))
    return f"{least}{what}{most}"
