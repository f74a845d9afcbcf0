"""A version as a person reads it: where it stands, what was found, in which forms it can be served."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_COLOURS: Final = {"refuse": "red", "review": "yellow", "note": "dim"}


def findings_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """Return findings with their place, rule and severity; text from the file is printed as it is, never as markup."""
    table = Table("severity", "rule", "where", "what", expand=False)
    for finding in findings:
        severity = str(finding.get("severity", ""))
        place = str(finding.get("where", ""))
        role = finding.get("artifact")
        where = f"{place} (stored as {role})" if role else place
        texts = (
            Text(str(finding.get("rule", ""))),
            Text(where, overflow="fold"),
            Text(str(finding.get("message", ""))),
        )
        table.add_row(Text(severity, style=_COLOURS.get(severity, "")), *texts)
    return table


def print_version(version: Mapping[str, Any], labels: Sequence[str] = ()) -> None:
    """Print what the gateway answers about a version."""
    console = Console(highlight=False, markup=False)
    name = f"{version['model']} version {version['version']}"
    labelled = f", labelled {', '.join(labels)}" if labels else ""
    console.print(
        f"{name}: {version['stage']}{labelled}; {version['format']}, {version['size_bytes']:,} bytes, by {version['created_by']}",
        soft_wrap=True,
    )
    if version["publisher"]:
        signer = version["publisher"]
        console.print(f"Signed by {signer['name']} (key {signer['key_id']}).", soft_wrap=True)
    released = version.get("released")
    if released and released["is_by_person"]:
        why = f": {released['reason']}" if released["reason"] else ""
        console.print(f"Released by {released['by']} at {released['at']}{why}.", soft_wrap=True)
    elif released:
        console.print("It waits for a person, and serves on meanwhile: it served when the rules began to ask for one.")
    if version["findings"]:
        console.print(findings_table(version["findings"]))
    console.print(_plans(version["plans"]))


def next_step(version: Mapping[str, Any]) -> str | None:
    """Return the command that comes next for a version, None if there is none."""
    which = f"{version['model']} {version['version']}"
    if version["stage"] == "staged":
        return f"Next: maas-gateway models promote {which}"
    if version["stage"] != "quarantined":
        return None
    if any(finding.get("severity") == "refuse" for finding in version["findings"]):
        return f"Next: maas-gateway models delete {which}"
    return f"Next, once somebody has looked at the findings: maas-gateway models release {which} --reason '…'"


def print_rescan(operation: Mapping[str, Any]) -> None:
    """Print what a rescan came to."""
    console = Console(highlight=False, markup=False)
    result = operation["result"]
    if operation["state"] != "succeeded" or result is None:
        console.print(f"The rescan {operation['state']}: {operation['error'] or 'it was stopped'}")
        return
    would = " would be" if operation["subject"]["dry_run"] else ""
    console.print(
        f"{result['scanned']} versions looked at: {result['passed']} pass, {result['review']} wait for a person, "
        f"{result['refused']} are refused, {result['unreadable']} cannot be read; "
        f"{result['quarantined']}{would} brought into quarantine.",
        soft_wrap=True,
    )
    if result["versions"]:
        table = Table("model", "version", "stage", "verdict", "rule", "where")
        for named in result["versions"]:
            finding = named["finding"]
            place = Text(str(finding.get("where", "")), overflow="fold")
            columns = (named["model"], str(named["version"]), named["stage"], named["verdict"], str(finding["rule"]))
            table.add_row(*map(Text, columns), place)
        console.print(table)


def _plans(plans: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("form", "runs in", "bytes", "largest error", "accepted up to", "µs a row")
    for plan in plans:
        tolerance, took = plan.get("tolerance"), plan.get("took_us")
        table.add_row(
            plan["runtime"],
            plan["placement"],
            f"{plan['size_bytes']:,}",
            f"{plan['max_relative_error']:.0e}",
            "" if tolerance is None else f"{tolerance:.0e}",
            "" if took is None else str(took),
        )
    return table
