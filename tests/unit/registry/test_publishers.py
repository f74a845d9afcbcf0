"""Whose signature of a file it is: of registered keys only, in either form, and of nothing else."""

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builders.publishers import Pen, statement
from maas_gateway.crypto.signatures import jwk_of_pem, jwk_thumbprint
from maas_gateway.errors import ArtifactRefused
from maas_gateway.identifiers import TenantId, new_id
from maas_gateway.registry.openssf import MAX_BUNDLE_BYTES
from maas_gateway.registry.publishers import (
    Publisher,
    PublisherKey,
    PublisherSignature,
    SignatureForm,
    verify_publisher,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/model-signing-1.1.1.json").read_text())
CONTENT = b"the file"
DIGEST = hashlib.sha256(CONTENT).digest()
TENANT = TenantId(new_id())
PEN, OTHER = Pen(), Pen()


def _key(jwk: dict[str, str], name: str = "release") -> PublisherKey:
    return PublisherKey(jwk_thumbprint(jwk), TENANT, name, jwk, datetime(2026, 1, 5, tzinfo=UTC))


KEY, OTHERS = _key(PEN.jwk), _key(OTHER.jwk, "other")


def _plain(signature: bytes, key_id: str | None = None) -> PublisherSignature:
    return PublisherSignature(SignatureForm.ES256, signature, key_id)


def _bundled(bundle: object) -> PublisherSignature:
    content = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    return PublisherSignature(SignatureForm.OPENSSF_BUNDLE, content)


@pytest.mark.parametrize("key_id", [PEN.key_id, None], ids=["naming its key", "naming none"])
def test_plain_signature_is_verified_in_both_spellings(key_id: str | None) -> None:
    for signature in (PEN.der(CONTENT), PEN.raw(CONTENT)):
        assert verify_publisher([OTHERS, KEY], DIGEST, _plain(signature, key_id)) == KEY


@pytest.mark.parametrize(
    ("keys", "signature", "sentence"),
    [
        pytest.param([], _plain(PEN.der(CONTENT)), "not registered", id="where no key is registered"),
        pytest.param([OTHERS], _plain(PEN.der(CONTENT), PEN.key_id), "not registered", id="by a key that is not"),
        pytest.param([OTHERS], _plain(PEN.der(CONTENT)), "does not verify", id="by none of the registered"),
        pytest.param([KEY, OTHERS], _plain(PEN.der(CONTENT), OTHER.key_id), "does not verify", id="by another key"),
        pytest.param([KEY], _plain(PEN.der(b"other")), "does not verify", id="of another file"),
        pytest.param([KEY], _plain(PEN.der(DIGEST)), "does not verify", id="of the digest, hashed again"),
        pytest.param([KEY], _plain(b""), "does not verify", id="that is empty"),
        pytest.param([KEY], _plain(PEN.der(CONTENT), ""), "not registered", id="by a key without a name"),
        pytest.param([KEY], _plain(json.dumps(PEN.bundle(CONTENT)).encode()), "does not verify", id="that is a bundle"),
        pytest.param([KEY], _bundled(PEN.der(CONTENT)), "bundle", id="that is no bundle"),
        pytest.param([], _bundled(PEN.bundle(CONTENT)), "not registered", id="in a bundle where no key is registered"),
        pytest.param([OTHERS], _bundled(PEN.bundle(CONTENT)), "not registered", id="in a bundle, by a key that is not"),
        pytest.param([KEY], _bundled(PEN.bundle(b"other")), "of another file", id="in a bundle, of another file"),
    ],
)
def test_signature_is_refused(keys: list[PublisherKey], signature: PublisherSignature, sentence: str) -> None:
    with pytest.raises(ArtifactRefused) as caught:
        verify_publisher(keys, DIGEST, signature)
    assert sentence in caught.value.detail


def test_bundle_is_verified() -> None:
    assert verify_publisher([OTHERS, KEY], DIGEST, _bundled(PEN.bundle(CONTENT))) == KEY


# --- what the real program wrote -----------------------------------------------------------------


def _real(name: str) -> PublisherKey:
    key = _key(jwk_of_pem(VECTORS["public_key"]))
    digest = hashlib.sha256(VECTORS["file"]["content"].encode()).digest()
    return verify_publisher([KEY, key], digest, _bundled(VECTORS["bundles"][name].encode()))


@pytest.mark.parametrize("name", ["file", "folder_of_one"])
def test_bundle_of_model_signing_is_verified(name: str) -> None:
    assert _real(name).jwk == jwk_of_pem(VECTORS["public_key"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("other_file", "of another file, with SHA-256"),
        ("folder_of_two", "'resources' has 2 members"),
        ("shards", "'method' is not files"),
        ("certificate", "not made with a key"),
        ("file_1_0", "'hint' is missing"),
    ],
)
def test_bundle_of_model_signing_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ArtifactRefused) as caught:
        _real(name)
    assert sentence in caught.value.detail


def test_every_byte_of_a_real_bundles_statement_and_signature_counts() -> None:
    bundle = json.loads(VECTORS["bundles"]["file"])
    envelope = bundle["dsseEnvelope"]
    for holder, name in ((envelope, "payload"), (envelope["signatures"][0], "sig")):
        content = bytearray(base64.b64decode(holder[name]))
        kept = holder[name]
        for at in range(len(content)):
            content[at] ^= 1
            holder[name] = base64.b64encode(bytes(content)).decode()
            with pytest.raises(ArtifactRefused, match="does not verify"):
                verify_publisher(
                    [_key(jwk_of_pem(VECTORS["public_key"]))],
                    bytes.fromhex(VECTORS["file"]["sha256"]),
                    _bundled(bundle),
                )
            content[at] ^= 1
        holder[name] = kept


# --- bundles that the program does not write -----------------------------------------------------


def _changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    bundle = PEN.bundle(CONTENT)
    change(bundle)
    return json.dumps(bundle).encode()


def _set(*path: str | int, to: object) -> Callable[[dict[str, Any]], object]:
    def change(bundle: dict[str, Any]) -> None:
        found: Any = bundle
        for part in path[:-1]:
            found = found[part]
        found[path[-1]] = to

    return change


ENVELOPE, MATERIAL = "dsseEnvelope", "verificationMaterial"
BUNDLES = {
    "larger than is accepted": (_changed(_set("more", to="x" * MAX_BUNDLE_BYTES)), "larger than"),
    "no JSON": (b"{", "bundle"),
    "not UTF-8": (b'{"a": "\xff"}', "bundle"),
    "a list": (b"[]", "no JSON object"),
    "nested deep": (b"[" * 10_000, "bundle"),
    "a key twice": (_changed(dict.copy)[:-1] + b', "mediaType": "x"}', "twice"),
    "another media type": (_changed(_set("mediaType", to="application/json")), "'mediaType'"),
    "an older media type": (
        _changed(_set("mediaType", to="application/vnd.dev.sigstore.bundle+json;version=0.2")),
        "'mediaType'",
    ),
    "no material": (_changed(lambda b: b.pop(MATERIAL)), "'verificationMaterial'"),
    "no key": (_changed(_set(MATERIAL, to={})), "not made with a key"),
    "a key that is text": (_changed(_set(MATERIAL, "publicKey", to="x")), "'publicKey'"),
    "no hint": (_changed(_set(MATERIAL, "publicKey", to={})), "'hint'"),
    "a hint of another key": (_changed(_set(MATERIAL, "publicKey", "hint", to="00" * 32)), "not registered"),
    "a hint in capitals": (
        _changed(lambda b: _set(MATERIAL, "publicKey", "hint", to=b[MATERIAL]["publicKey"]["hint"].upper())(b)),
        "not registered",
    ),
    "no envelope": (_changed(lambda b: b.pop(ENVELOPE)), "'dsseEnvelope'"),
    "a message signature in its place": (
        _changed(lambda b: b.update(messageSignature=b.pop(ENVELOPE))),
        "'dsseEnvelope'",
    ),
    "another payload type": (_changed(_set(ENVELOPE, "payloadType", to="text/plain")), "'payloadType'"),
    "a payload that is no base64": (_changed(_set(ENVELOPE, "payload", to="!")), "'payload' is not base64"),
    "a payload that is no ASCII": (_changed(_set(ENVELOPE, "payload", to="é")), "'payload' is not base64"),
    "a payload that is a number": (_changed(_set(ENVELOPE, "payload", to=5)), "'payload'"),
    "no signature": (_changed(_set(ENVELOPE, "signatures", to=[])), "'signatures' has 0 members"),
    "two signatures": (
        _changed(lambda b: b[ENVELOPE]["signatures"].append(b[ENVELOPE]["signatures"][0])),
        "'signatures' has 2 members",
    ),
    "a signature that is text": (_changed(_set(ENVELOPE, "signatures", to=["x"])), "'signatures'"),
    "an empty signature": (_changed(_set(ENVELOPE, "signatures", 0, "sig", to="")), "does not verify"),
    "a signature of the payload alone": (
        _changed(
            lambda b: _set(
                ENVELOPE,
                "signatures",
                0,
                "sig",
                to=base64.b64encode(PEN.der(base64.b64decode(b[ENVELOPE]["payload"]))).decode(),
            )(b)
        ),
        "does not verify",
    ),
    "a signature of the file": (
        _changed(_set(ENVELOPE, "signatures", 0, "sig", to=base64.b64encode(PEN.der(CONTENT)).decode())),
        "does not verify",
    ),
}


@pytest.mark.parametrize(("bundle", "sentence"), [pytest.param(*case, id=name) for name, case in BUNDLES.items()])
def test_bundle_is_refused(bundle: bytes, sentence: str) -> None:
    with pytest.raises(ArtifactRefused) as caught:
        verify_publisher([KEY], DIGEST, _bundled(bundle))
    assert sentence in caught.value.detail


def _said(*path: str | int, to: object) -> dict[str, Any]:
    said = copy.deepcopy(statement(CONTENT))
    _set(*path, to=to)(said)
    return said


RESOURCE = statement(CONTENT)["predicate"]["resources"][0]
STATEMENTS = {
    "no JSON": (b"the file", "statement"),
    "a key twice": (b'{"_type": "a", "_type": "b"}', "twice"),
    "a list": ([], "no JSON object"),
    "of another type": (_said("_type", to="https://in-toto.io/Statement/v0.1"), "'_type'"),
    "about something else": (_said("predicateType", to="https://slsa.dev/provenance/v1"), "'predicateType'"),
    "of the experimental release": (
        _said("predicateType", to="https://model_signing/Digests/v0.1"),
        "'predicateType'",
    ),
    "without a predicate": (_said("predicate", to=None), "'predicate'"),
    "without a serialization": (_said("predicate", "serialization", to=[]), "'serialization'"),
    "of shards": (_said("predicate", "serialization", "method", to="shards"), "'method'"),
    "by another hash": (_said("predicate", "serialization", "hash_type", to="blake2b"), "'hash_type'"),
    "of no file": (_said("predicate", "resources", to=[]), "'resources' has 0 members"),
    "of two files": (_said("predicate", "resources", to=[RESOURCE, RESOURCE]), "'resources' has 2 members"),
    "of a file by another hash": (_said("predicate", "resources", 0, "algorithm", to="blake2b"), "'algorithm'"),
    "of another file": (_said("predicate", "resources", 0, "digest", to="00" * 32), "of another file"),
    "of a file whose digest is in capitals": (
        _said("predicate", "resources", 0, "digest", to=DIGEST.hex().upper()),
        "of another file",
    ),
    "of a file whose digest is text": (_said("predicate", "resources", 0, "digest", to="é" * 500), "of another file"),
    "whose subject is missing": (_said("subject", to=[]), "'subject' has 0 members"),
    "whose subject has another digest": (_said("subject", 0, "digest", "sha256", to=DIGEST.hex()), "'sha256'"),
    "whose subject has no digest": (_said("subject", 0, "digest", to={}), "'sha256'"),
}


@pytest.mark.parametrize(("said", "sentence"), [pytest.param(*case, id=name) for name, case in STATEMENTS.items()])
def test_signed_statement_is_refused(said: object, sentence: str) -> None:
    """Signed well, by a registered key: what it says decides."""
    with pytest.raises(ArtifactRefused) as caught:
        verify_publisher([KEY], DIGEST, _bundled(PEN.bundle_of(said)))
    assert sentence in caught.value.detail
    assert len(caught.value.detail) < 400
    assert "é" not in caught.value.detail


def test_members_that_the_format_does_not_name_are_passed_over() -> None:
    said = _said("predicate", "more", to=1)
    bundle = PEN.bundle_of({**said, "more": None})
    bundle["dsseEnvelope"]["more"] = bundle["more"] = [1.5]
    assert verify_publisher([KEY], DIGEST, _bundled(bundle)) == KEY


def test_what_a_manifest_says_of_a_publisher_is_read_as_it_was_written() -> None:
    publisher = Publisher(KEY.key_id, KEY.name, SignatureForm.ES256, PEN.der(CONTENT))
    assert Publisher.from_json(json.loads(json.dumps(publisher.to_json()))) == publisher
