"""Every error has a status, a kind that can be looked up, and the headers that its status asks for."""

import pytest

from maas_gateway.errors import GatewayError, Overloaded, PermissionDenied, Unauthenticated, Unavailable
from maas_gateway.web.problems import STATUS, headers_of, problem, status_of


def kinds(kind: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in kinds(child))]


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind is not GatewayError])
def test_error_has_a_status_of_its_own_branch(kind: type[GatewayError]) -> None:
    assert any(parent in STATUS for parent in kind.__mro__)
    assert 400 <= status_of(kind("a sentence")) <= 504


def test_slugs_are_unique() -> None:
    slugs = [kind.slug for kind in kinds()]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(Unauthenticated("x", was_sent=False), 'Bearer realm="maas-gateway"', id="nothing was sent"),
        pytest.param(
            Unauthenticated("the sentence"),
            'Bearer realm="maas-gateway", error="invalid_token", error_description="the sentence"',
            id="something wrong was sent",
        ),
        pytest.param(
            PermissionDenied("x"), 'Bearer realm="maas-gateway", error="insufficient_scope"', id="not permitted"
        ),
    ],
)
def test_challenge_says_what_is_missing(error: GatewayError, expected: str) -> None:
    assert dict(headers_of(error))[b"www-authenticate"].decode() == expected


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        pytest.param(Unavailable("x"), b"1", id="at least a second"),
        pytest.param(Overloaded("x", retry_after_s=0.1), b"1", id="rounded up"),
        pytest.param(Overloaded("x", retry_after_s=7.2), b"8", id="rounded up from more"),
    ],
)
def test_what_may_be_tried_again_says_when(error: GatewayError, seconds: bytes) -> None:
    assert dict(headers_of(error))[b"retry-after"] == seconds


def test_problem_has_the_members_of_the_standard() -> None:
    found = problem(PermissionDenied("the sentence"), instance="/a", request_id="r")
    assert found == {
        "type": "/problems/permission-denied",
        "title": "Permission denied",
        "status": 403,
        "detail": "the sentence",
        "instance": "/a",
        "request_id": "r",
    }
