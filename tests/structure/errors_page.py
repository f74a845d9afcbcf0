"""Writes `docs/errors.md` from the error tree and the statuses that doors give it."""

from collections.abc import Iterator

from maas_gateway.errors import GatewayError
from maas_gateway.protocols.open_inference.routes import OpenInferenceDialect
from maas_gateway.protocols.tf_serving.routes import TFServingDialect
from maas_gateway.web.problems import headers_of, status_of

_HEAD = """# Errors

Generated from `src/maas_gateway/errors.py` and `web/problems.py`; do not edit (`TEST_MAAS_UPDATE_DOCS=1 make unit`
writes it anew).

What went wrong is a class; a class stands below the one it is a kind of. The management API answers
`application/problem+json` (RFC 9457) whose `type` is `/problems/<slug>`; that address explains itself. The prediction
doors answer `{"error": "…", "request_id": "…"}`, each with its own protocol's status, given where it differs.
"""


def errors_page() -> str:
    """Return the page."""
    lines = ["| error | status | slug | headers | when |", "|---|---|---|---|---|"]
    for depth, kind in tree():
        error = kind("a sentence")
        headers = ", ".join(f"`{name.decode()}`" for name, _ in headers_of(error))
        name = "&nbsp;" * 4 * depth + f"`{kind.__name__}`"
        sentence = (kind.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| {name} | {_statuses(error)} | `{kind.slug}` | {headers} | {sentence} |")
    return _HEAD + "\n" + "\n".join(lines) + "\n"


def tree(kind: type[GatewayError] = GatewayError, depth: int = 0) -> Iterator[tuple[int, type[GatewayError]]]:
    """Yield every error class of ours under how many others it stands."""
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == GatewayError.__module__:
            yield from tree(child, depth + 1)


def _statuses(error: GatewayError) -> str:
    status = status_of(error)
    texts = [str(status)]
    for dialect, door in ((TFServingDialect(), "TensorFlow Serving"), (OpenInferenceDialect(), "Open Inference")):
        other = dialect.status(error)
        if other != status:
            texts.append(f"{other} ({door})")
    return ", ".join(texts)
