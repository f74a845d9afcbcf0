"""What the deployment states and signs: manifests of model versions, erasure certificates.

Rules: a statement is a compact JWS whose payload is canonical JSON; its type says what it states, so
that one kind never passes for another; it is verified by a key of the `statements` ring that may
still verify, found by its id, and by nothing that the statement itself brings along, nor by a public
key that merely stands in a row.

Source: RFC 7515 (JWS, compact serialization, section 7.1), RFC 8725 section 3.11 (explicit typing),
RFC 8785 (canonical JSON), RFC 7518 section 3.4 (ES256).
"""

import base64
from collections.abc import Mapping
from typing import Final

from maas_gateway.crypto.digests import canonical_json, parse_canonical
from maas_gateway.crypto.signatures import ES256Signer, verify_es256
from maas_gateway.errors import CiphertextRejected, SignatureRejected
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring

_PARTS: Final = 3
_REJECTED: Final = "a signed statement was altered, or its key may not verify any more"


class Statements:
    """Signs and verifies in the deployment's name."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def sign(self, kind: str, body: Mapping[str, object]) -> str:
        """Return a statement.

        Args:
            kind: what it states, for example `maas-manifest`.
            body: what `canonical_json` takes.

        Raises:
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        signer = await self._keyring.signer(PLATFORM, Purpose.STATEMENTS)
        header = {"alg": "ES256", "kid": signer.key_id, "typ": _type_of(kind)}
        signed = f"{_encoded(canonical_json(header))}.{_encoded(canonical_json(dict(body)))}"
        return f"{signed}.{_encoded(signer.sign(signed.encode('ascii')))}"

    async def verify(self, kind: str, statement: str) -> Mapping[str, object]:
        """Return what a statement of that kind says.

        Raises:
            SignatureRejected: it was altered, is of another kind, or its key may not verify any more, or was altered.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        parts = statement.split(".")
        if len(parts) != _PARTS:
            raise SignatureRejected(_REJECTED)
        header, body = _read(parts[0]), _read(parts[1])
        if header != {"alg": "ES256", "kid": header.get("kid"), "typ": _type_of(kind)}:
            raise SignatureRejected(_REJECTED)
        public = await self._public(str(header["kid"]))
        verify_es256(public, f"{parts[0]}.{parts[1]}".encode("ascii"), _decoded(parts[2]))
        return body

    async def history(self) -> list[dict[str, str]]:
        """Return the public key of every version there ever was, with its state: certificates outlive keys."""
        versions = await self._keyring.versions(PLATFORM, Purpose.STATEMENTS)
        return [{**version.public, "state": version.state.value} for version in versions if version.public is not None]

    async def _public(self, key_id: str) -> Mapping[str, str]:
        """Return the public half of the private key that only the root key opens: whoever writes rows can write any other."""
        asked_at_s = self._keyring.clock.monotonic_s()
        for at_least_s in (None, asked_at_s):
            for version in await self._keyring.published(PLATFORM, Purpose.STATEMENTS, asked_at_s=at_least_s):
                if isinstance(version.public, Mapping) and version.public.get("kid") == key_id:
                    signer = await self._signer(version.version)
                    if signer.key_id == key_id:
                        return signer.public_jwk()
        raise SignatureRejected(_REJECTED)

    async def _signer(self, number: int) -> ES256Signer:
        try:
            return ES256Signer(await self._keyring.key(PLATFORM, Purpose.STATEMENTS, number))
        except CiphertextRejected as cause:
            raise SignatureRejected(_REJECTED) from cause


def key_of(statement: str) -> str:
    """Return the id of the key that a statement says has signed it; nothing is verified.

    Raises:
        SignatureRejected: it is no statement.
    """
    return str(_read(statement.partition(".")[0]).get("kid"))


def _type_of(kind: str) -> str:
    return f"{kind}+jws"


def _read(part: str) -> dict[str, object]:
    try:
        value = parse_canonical(_decoded(part))
    except ValueError as cause:
        raise SignatureRejected(_REJECTED) from cause
    if not isinstance(value, dict):
        raise SignatureRejected(_REJECTED)
    return value


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decoded(part: str) -> bytes:
    """Return what a part encodes; the same bytes spelt otherwise are refused."""
    try:
        content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as cause:
        raise SignatureRejected(_REJECTED) from cause
    if _encoded(content) != part:
        raise SignatureRejected(_REJECTED)
    return content
