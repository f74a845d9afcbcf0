import copy
import dataclasses
import hashlib
import hmac
import json
import os
import pickle
import struct
import uuid
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_gateway.crypto.chunked import SEGMENT_BYTES, StreamSealer
from maas_gateway.crypto.envelope import (
    ArtifactHeader,
    ArtifactOpener,
    ArtifactSealer,
    DataKey,
    WrappedDataKey,
    rewrap_data_key,
    unwrap_data_key,
    wrap_data_key,
)
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected
from unit.crypto.sources import BreakingSource, LyingSource, MemorySource

KEK = KeyMaterial.from_bytes(bytes(range(32, 64)))
HEADER = ArtifactHeader(
    tenant_id=uuid.UUID(int=1), model_id=uuid.UUID(int=2), artifact_id=uuid.UUID(int=3), version=4, role="model"
)
DATA_KEY = DataKey(KeyMaterial.from_bytes(bytes(range(32))))
CANONICAL = HEADER.encode()[10:]
NOISE = os.urandom(2 * SEGMENT_BYTES + 5000)


def _seal(plaintext: bytes, *, data_key: DataKey = DATA_KEY, header: ArtifactHeader = HEADER) -> bytes:
    sealer = ArtifactSealer(data_key, header)
    return sealer.prefix() + sealer.update(plaintext) + sealer.finish()


def _open(
    blob: bytes | bytearray,
    *,
    data_key: DataKey = DATA_KEY,
    header: ArtifactHeader = HEADER,
    context: bytes | None = None,
) -> bytes:
    opener = ArtifactOpener(data_key, header, header.context() if context is None else context, MemorySource(blob))
    target = bytearray(opener.size_bytes)
    opener.open_into(memoryview(target))
    return bytes(target)


def _wrap(data_key: DataKey = DATA_KEY, header: ArtifactHeader = HEADER, *, key_version: int = 1) -> WrappedDataKey:
    return wrap_data_key(
        KEK,
        data_key,
        artifact_id=header.artifact_id,
        tenant_id=header.tenant_id,
        purpose="artifacts",
        key_version=key_version,
        context=header.context(),
    )


def _forge(header: bytes, start: bytes | None = None) -> tuple[bytes, bytes]:
    """Seal with the true data key, but under any header: what only the checks of the header can refuse."""
    encoded = (struct.pack(">4sHI", b"MGW1", 1, len(header)) if start is None else start) + header
    context = hashlib.sha256(encoded).digest()
    prefix = encoded + DATA_KEY.derive(b"mgw1 commit", context).expose()
    stream = StreamSealer(DATA_KEY.derive(b"mgw1 body", context), hashlib.sha256(prefix).digest())
    return prefix + stream.update(b"plaintext") + stream.finish(), context


def test_header_is_encoded_as_the_format_says() -> None:
    header = (
        b'{"alg":"AES256-GCM-HKDF-1MB","artifact_id":"00000000-0000-0000-0000-000000000003",'
        b'"model_id":"00000000-0000-0000-0000-000000000002","role":"model",'
        b'"tenant_id":"00000000-0000-0000-0000-000000000001","version":4}'
    )
    assert HEADER.encode() == b"MGW1\x00\x01\x00\x00\x00" + bytes([len(header)]) + header
    assert HEADER.context() == hashlib.sha256(HEADER.encode()).digest()


@pytest.mark.parametrize(
    "change",
    [{"version": 0}, {"version": -1}, {"version": 2**53}, {"role": ""}, {"role": "r" * 129}],
    ids=str,
)
def test_header_refuses_what_it_cannot_hold(change: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match="a sealed artifact's"):
        dataclasses.replace(HEADER, **change)  # type: ignore[arg-type]


def test_artifact_opens_with_nothing_but_the_written_format() -> None:
    """An independent reading of docs: HMAC for the derivations, AES-GCM for the one segment."""
    blob = _seal(b"plaintext")
    header_end = 10 + int.from_bytes(blob[6:10], "big")
    context = hashlib.sha256(blob[:header_end]).digest()
    key = bytes(range(32))
    assert blob[header_end : header_end + 32] == hmac.digest(key, b"mgw1 commit\x00" + context + b"\x01", "sha256")
    body_key = hmac.digest(key, b"mgw1 body\x00" + context + b"\x01", "sha256")
    associated_data = hashlib.sha256(blob[: header_end + 32]).digest()
    body = blob[header_end + 32 :]
    stream_key = HKDF(algorithm=SHA256(), length=32, salt=body[1:33], info=associated_data).derive(body_key)
    assert body[0] == 40
    assert AESGCM(stream_key).decrypt(body[33:40] + b"\x00\x00\x00\x00\x01", body[40:], None) == b"plaintext"


def test_wrapped_key_opens_with_nothing_but_the_written_format() -> None:
    wrapped = _wrap()
    fields = [b"mgw1 wrap", str(HEADER.tenant_id).encode(), b"artifacts", b"1", HEADER.context()]
    associated_data = b"".join(struct.pack(">H", len(field)) + field for field in fields)
    assert AESGCM(KEK.expose()).decrypt(wrapped.nonce, wrapped.ciphertext, associated_data) == bytes(range(32))


FROZEN_WRAP = (
    "127013cb7eb258b4adbd83e7a5b13787804243a958bf090bdaee0954f0eac28e1736d1ed5e0e62fb20a264ec0babaf187043361fcca3858c"
    "7656bd17"
)
FROZEN_BLOB = (
    "4d4757310001000000d27b22616c67223a224145533235362d47434d2d484b44462d314d42222c2261727469666163745f6964223a223030"
    "3030303030302d303030302d303030302d303030302d303030303030303030303033222c226d6f64656c5f6964223a223030303030303030"
    "2d303030302d303030302d303030302d303030303030303030303032222c22726f6c65223a226d6f64656c222c2274656e616e745f696422"
    "3a2230303030303030302d303030302d303030302d303030302d303030303030303030303031222c2276657273696f6e223a347d74f1ae1e"
    "529dc664af2531182faacb72ee236645e43723a3d0dcc8df1230e834285f857c144f44f46842593e9318df2e8f8d108bc4e39d63819d5dc8"
    "a6665430578ceafac6b70a25708310ed4ac13bb9cccf7f9e8f2e3576412623c490cd754c97c2c472ea37353989b728a28071acead7b5d4a6"
    "a414"
)


def test_opener_still_reads_an_artifact_of_the_first_release() -> None:
    sealed_key = bytes.fromhex(FROZEN_WRAP)
    wrapped = dataclasses.replace(_wrap(), nonce=sealed_key[:12], ciphertext=sealed_key[12:])
    blob = bytes.fromhex(FROZEN_BLOB)
    assert _open(blob, data_key=unwrap_data_key(KEK, wrapped)) == b"sealed once, readable for ever"


@settings(max_examples=30, deadline=None)
@given(
    n_bytes=st.integers(0, 300) | st.integers(0, len(NOISE)),
    header=st.builds(
        ArtifactHeader,
        tenant_id=st.uuids(),
        model_id=st.uuids(),
        artifact_id=st.uuids(),
        version=st.integers(1, 2**53 - 1),
        role=st.text(st.characters(codec="utf-8"), min_size=1, max_size=128),
    ),
    cut=st.integers(0, len(NOISE)),
)
def test_opener_returns_what_was_sealed(n_bytes: int, header: ArtifactHeader, cut: int) -> None:
    data_key = DataKey.generate()
    sealer = ArtifactSealer(data_key, header)
    plaintext = NOISE[:n_bytes]
    blob = sealer.prefix() + sealer.update(plaintext[:cut]) + sealer.update(plaintext[cut:]) + sealer.finish()
    assert _open(blob, data_key=unwrap_data_key(KEK, _wrap(data_key, header)), header=header) == plaintext


def test_read_at_returns_the_same_as_the_whole() -> None:
    opener = ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), MemorySource(_seal(NOISE)))
    assert opener.size_bytes == len(NOISE)
    for offset in range(0, len(NOISE), 99_991):
        assert opener.read_at(offset, 100) == NOISE[offset : offset + 100]


def test_sealing_the_same_twice_gives_other_bytes_after_the_prefix() -> None:
    one, other = _seal(b"same"), _seal(b"same")
    start = len(HEADER.encode()) + 32
    assert one[:start] == other[:start]
    assert one[start + 1 : start + 40] != other[start + 1 : start + 40]
    assert one[start + 40 :] != other[start + 40 :]


@pytest.mark.thorough
def test_no_two_of_many_artifacts_share_a_data_key_or_a_stream_key() -> None:
    """Case 35: a stream's key comes from the data key and the salt, its nonces begin with the prefix."""
    n_artifacts = 100_000
    assert len({DataKey.generate()._material.expose() for _ in range(n_artifacts)}) == n_artifacts
    heads = {StreamSealer(KEK, b"").update(b"") for _ in range(n_artifacts)}
    assert {len(head) for head in heads} == {40}
    assert len({head[1:33] for head in heads}) == len({head[33:40] for head in heads}) == n_artifacts


def test_sealer_refuses_to_write_out_of_order() -> None:
    sealer = ArtifactSealer(DATA_KEY, HEADER)
    with pytest.raises(RuntimeError, match="first"):
        sealer.update(b"x")
    with pytest.raises(RuntimeError, match="first"):
        sealer.finish()
    sealer.prefix()
    with pytest.raises(RuntimeError, match="once"):
        sealer.prefix()
    sealer.finish()
    with pytest.raises(RuntimeError, match="finished"):
        sealer.update(b"x")


# What is put before the body, sealed with the true key: only the checks of the header can refuse it.


def _json(change: dict[str, object]) -> bytes:
    return json.dumps({**json.loads(CANONICAL), **change}, separators=(",", ":"), sort_keys=True).encode()


def _start(magic: bytes = b"MGW1", version: int = 1, n: int = len(CANONICAL)) -> bytes:
    return struct.pack(">4sHI", magic, version, n)


def _sentence(case: str) -> str:
    if case.startswith(("the magic", "the format")):
        return "not a sealed artifact of this format"
    if case.endswith(" is another") or "look-alike" in case:
        return "the artifact is another one than the expected"
    return "the artifact's header is malformed"


HEADERS: list[tuple[str, bytes, bytes | None]] = [
    ("the magic is of another kind", CANONICAL, _start(magic=b"MGW2")),
    ("the magic is lower case", CANONICAL, _start(magic=b"mgw1")),
    ("the format number is lowered", CANONICAL, _start(version=0)),
    ("the format number is raised", CANONICAL, _start(version=2)),
    ("the header has no length", CANONICAL, _start(n=0)),
    ("the header is a byte shorter than it is", CANONICAL, _start(n=len(CANONICAL) - 1)),
    ("the header is a byte longer than it is", CANONICAL, _start(n=len(CANONICAL) + 1)),
    ("the header is longer than the file", CANONICAL, _start(n=60_000)),
    ("the header has the largest length", CANONICAL, _start(n=2**32 - 1)),
    ("the header is longer than allowed", _json({"role": "r" * 65_536}), None),
    ("the header is nothing", b"", None),
    ("the header is no JSON", b"header", None),
    ("the header is an array", b"[]", None),
    ("the header is null", b"null", None),
    ("the header is deeply nested", b"[" * 60_000, None),
    ("the header has white space", json.dumps(json.loads(CANONICAL), sort_keys=True).encode(), None),
    (
        "the header's keys are out of order",
        json.dumps(dict(reversed(json.loads(CANONICAL).items())), separators=(",", ":")).encode(),
        None,
    ),
    ("the header says a key twice", CANONICAL[:-1] + b',"version":4}', None),
    ("the header has bytes behind it", CANONICAL + b" ", None),
    ("the header has a key more", _json({"zone": "x"}), None),
    ("the header names a key version", _json({"key_version": 1}), None),
    ("the header lacks a key", CANONICAL.replace(b'"role":"model",', b""), None),
    ("the header has another key instead", CANONICAL.replace(b'"role"', b'"rolf"'), None),
    ("the algorithm is unknown", _json({"alg": "AES256-GCM-HKDF-2MB"}), None),
    ("the segment size is 4 KiB", _json({"alg": "AES256-GCM-HKDF-4KB"}), None),
    ("the algorithm is null", _json({"alg": None}), None),
    ("the version is text", _json({"version": "4"}), None),
    ("the version is a float", _json({"version": 4.0}), None),
    ("the version is true", _json({"version": True}), None),
    ("the version is zero", _json({"version": 0}), None),
    ("the version is negative", _json({"version": -4}), None),
    ("the version is beyond 2^53", _json({"version": 2**63}), None),
    ("the version has 5000 digits", CANONICAL.replace(b":4}", b":" + b"4" * 5000 + b"}"), None),
    ("the version is another", _json({"version": 5}), None),
    ("the tenant is another", _json({"tenant_id": str(uuid.UUID(int=9))}), None),
    ("the model is another", _json({"model_id": str(uuid.UUID(int=9))}), None),
    ("the artifact is another", _json({"artifact_id": str(uuid.UUID(int=9))}), None),
    ("the role is another", _json({"role": "converted"}), None),
    ("the role is empty", _json({"role": ""}), None),
    ("the role is a list", _json({"role": ["model"]}), None),
    ("the role is a look-alike with a Cyrillic o", CANONICAL.replace(b'model"', 'm\u043edel"'.encode()), None),
    ("the tenant is no UUID", _json({"tenant_id": "tenant"}), None),
    ("the tenant is a UUID in braces", _json({"tenant_id": "{" + str(HEADER.tenant_id) + "}"}), None),
    ("the tenant is a UUID without dashes", _json({"tenant_id": HEADER.tenant_id.hex}), None),
    ("the tenant is a number", _json({"tenant_id": 1}), None),
    ("the tenant has Arabic digits", CANONICAL.replace(b"000001", "00000\u0661".encode()), None),
]


@pytest.mark.parametrize(
    ("header", "start", "sentence"),
    [(*case[1:], _sentence(case[0])) for case in HEADERS],
    ids=[case[0] for case in HEADERS],
)
@pytest.mark.parametrize("has_forged_row", [True, False], ids=["and the row says so too", "and the row is true"])
def test_opener_refuses_a_header_when(
    *, header: bytes, start: bytes | None, sentence: str, has_forged_row: bool
) -> None:
    blob, context = _forge(header, start)
    with pytest.raises(CiphertextRejected, match=f"^{sentence}$"):
        _open(blob, context=context if has_forged_row else None)


def test_opener_reads_no_header_that_is_longer_than_allowed() -> None:
    blob, context = _forge(_json({"role": "r" * 65_536}))
    source = MemorySource(blob)
    with pytest.raises(CiphertextRejected):
        ArtifactOpener(DATA_KEY, HEADER, context, source)
    assert source.furthest == 10


def test_forging_helper_makes_what_opens_when_the_header_is_true() -> None:
    blob, context = _forge(CANONICAL)
    assert _open(blob, context=context) == b"plaintext"


# Parts of one artifact put into another. `O` is a second artifact's blob; each case alters one thing.

OTHERS = [
    ("tenant", {"tenant_id": uuid.UUID(int=9)}),
    ("model", {"model_id": uuid.UUID(int=9)}),
    ("version", {"version": 5}),
    ("artifact", {"artifact_id": uuid.UUID(int=9)}),
    ("role", {"role": "converted"}),
]


@pytest.fixture(params=[case[1] for case in OTHERS], ids=[f"of another {case[0]}" for case in OTHERS])
def other(request: pytest.FixtureRequest) -> ArtifactHeader:
    return dataclasses.replace(HEADER, **request.param)


def test_opener_refuses_the_whole_artifact(other: ArtifactHeader) -> None:
    """Cases 15 to 18: blob alone, blob and row, row alone; once with an own key, once with the same."""
    for data_key in (DataKey.generate(), DATA_KEY):
        blob = _seal(b"plaintext", data_key=data_key, header=other)
        row = _wrap(data_key, other)
        with pytest.raises(CiphertextRejected):
            _open(blob)
        with pytest.raises(CiphertextRejected):
            _open(blob, data_key=unwrap_data_key(KEK, row), context=row.context)
        with pytest.raises(CiphertextRejected):
            _open(_seal(b"plaintext"), data_key=unwrap_data_key(KEK, row), context=row.context)


def test_opener_refuses_header_body_commitment_or_segment(other: ArtifactHeader) -> None:
    for data_key in (DataKey.generate(), DATA_KEY):
        mine, theirs = _seal(NOISE), _seal(NOISE[::-1], data_key=data_key, header=other)
        m, t = len(HEADER.encode()), len(other.encode())
        spliced = [
            theirs[:t] + mine[m:],
            mine[:m] + theirs[t:],
            mine[:m] + theirs[t : t + 32] + mine[m + 32 :],
            mine[: m + 32] + theirs[t + 32 :],
            mine[: m + 72] + theirs[t + 72 : t + 32 + SEGMENT_BYTES] + mine[m + 32 + SEGMENT_BYTES :],
        ]
        for blob in spliced:
            with pytest.raises(CiphertextRejected):
                _open(blob)


@pytest.mark.parametrize(
    "commitment",
    [
        pytest.param(bytes(32), id="zeroed"),
        pytest.param(b"\xff" * 32, id="all ones"),
        pytest.param(DataKey.generate().derive(b"mgw1 commit", HEADER.context()).expose(), id="of another data key"),
        pytest.param(DATA_KEY.derive(b"mgw1 body", HEADER.context()).expose(), id="of another label"),
        pytest.param(DATA_KEY.derive(b"mgw1 commit", bytes(32)).expose(), id="of another context"),
    ],
)
def test_opener_refuses_a_commitment_before_it_reads_the_body_when_it_is(commitment: bytes) -> None:
    """The body is sealed for the false commitment, so that nothing but the comparison can refuse it."""
    prefix = HEADER.encode() + commitment
    stream = StreamSealer(DATA_KEY.derive(b"mgw1 body", HEADER.context()), hashlib.sha256(prefix).digest())
    source = MemorySource(prefix + stream.update(b"plaintext") + stream.finish())
    with pytest.raises(CiphertextRejected, match=r"^the artifact was not sealed under this key$"):
        ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), source)
    assert source.furthest == len(prefix)


def test_opener_refuses_another_data_key_before_it_reads_the_body() -> None:
    blob = _seal(b"plaintext")
    source = MemorySource(blob)
    with pytest.raises(CiphertextRejected):
        ArtifactOpener(DataKey.generate(), HEADER, HEADER.context(), source)
    assert source.furthest == len(HEADER.encode()) + 32


@pytest.mark.parametrize("context", [b"", bytes(32), HEADER.context()[:-1], HEADER.context() + b"\x00"])
def test_opener_refuses_a_row_whose_context_is_another(context: bytes) -> None:
    with pytest.raises(CiphertextRejected, match="do not belong together"):
        _open(_seal(b"plaintext"), context=context)


def test_opener_refuses_every_bit_flip_of_a_small_artifact() -> None:
    blob = bytearray(_seal(b"plaintext"))
    for bit in range(len(blob) * 8):
        blob[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CiphertextRejected):
            _open(blob)
        blob[bit // 8] ^= 1 << bit % 8
    assert _open(blob) == b"plaintext"


def test_opener_refuses_every_shorter_artifact_and_a_longer_one() -> None:
    blob = _seal(b"plaintext")
    for cut in [*(blob[:length] for length in range(len(blob))), blob + b"\x00", blob + blob]:
        with pytest.raises(CiphertextRejected):
            _open(cut)


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda rest: HEADER.encode() + rest))
def test_opener_refuses_any_bytes_with_nothing_but_its_own_error(blob: bytes) -> None:
    with pytest.raises(CiphertextRejected):
        _open(blob)


def _reader(target: memoryview) -> Callable[[ArtifactOpener], object]:
    return lambda opener: opener.open_into(target)


def _read_first_byte(opener: ArtifactOpener) -> object:
    """Must look at the last segment, whatever it reads."""
    return opener.read_at(0, 1)


@pytest.mark.thorough
def test_opener_refuses_every_byte_change_at_both_ends_of_three_segments() -> None:
    blob = bytearray(_seal(NOISE))
    source = MemorySource(blob)
    target = memoryview(bytearray(len(NOISE)))
    for place in [*range(4096), *range(len(blob) - 4096, len(blob))]:
        blob[place] ^= 0x80
        use = _reader(target) if place < 4096 else _read_first_byte
        with pytest.raises(CiphertextRejected):
            use(ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), source))
        blob[place] ^= 0x80
    assert not any(target[: SEGMENT_BYTES - 56])


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_open_into_leaves_no_plaintext_when_a_segment_is_refused(segment: int) -> None:
    blob = bytearray(_seal(NOISE))
    blob[min(len(HEADER.encode()) + 32 + (segment + 1) * SEGMENT_BYTES, len(blob)) - 1] ^= 1
    opener = ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), MemorySource(blob))
    target = bytearray(len(NOISE))
    with pytest.raises(CiphertextRejected):
        opener.open_into(memoryview(target))
    assert not any(target)


@pytest.mark.parametrize("size_bytes", [-1, 0, 41, 2**53, 2**63, 2**64])
def test_opener_refuses_a_source_of_impossible_size(size_bytes: int) -> None:
    with pytest.raises(CiphertextRejected):
        ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), MemorySource(_seal(b"plaintext"), size_bytes=size_bytes))


def test_opener_refuses_a_source_that_ends_within_the_header() -> None:
    source = MemorySource(_seal(b"plaintext")[:100], size_bytes=1000)
    with pytest.raises(CiphertextRejected):
        ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), source)
    with pytest.raises(CiphertextRejected):
        ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), LyingSource(_seal(b"plaintext"), lambda n: n + 1))


def test_opener_passes_on_that_a_disk_fails_since_that_is_no_tampering() -> None:
    with pytest.raises(OSError, match="Input/output"):
        ArtifactOpener(DATA_KEY, HEADER, HEADER.context(), BreakingSource(_seal(b"plaintext"), breaks_at=10))


# Wrapped keys.


def test_unwrap_returns_the_key_that_was_wrapped() -> None:
    assert unwrap_data_key(KEK, _wrap()) == DATA_KEY
    assert unwrap_data_key(KEK, _wrap()) != DataKey.generate()


def test_wrap_gives_other_bytes_each_time() -> None:
    assert len({_wrap().nonce for _ in range(500)} | {_wrap().ciphertext for _ in range(500)}) == 1000


def _flips(wrapped: WrappedDataKey) -> list[WrappedDataKey]:
    rows = []
    for name in ("nonce", "context", "ciphertext"):
        value: bytes = getattr(wrapped, name)
        for bit in range(len(value) * 8):
            number = int.from_bytes(value, "big") ^ (1 << bit)
            rows.append(dataclasses.replace(wrapped, **{name: number.to_bytes(len(value), "big")}))
    for name in ("tenant_id", "artifact_id"):
        rows += [
            dataclasses.replace(wrapped, **{name: uuid.UUID(int=getattr(wrapped, name).int ^ (1 << bit))})
            for bit in range(128)
        ]
    for place, letter in enumerate(wrapped.purpose):
        for bit in range(8):
            changed = wrapped.purpose[:place] + chr(ord(letter) ^ (1 << bit)) + wrapped.purpose[place + 1 :]
            rows.append(dataclasses.replace(wrapped, purpose=changed))
    rows += [dataclasses.replace(wrapped, key_version=wrapped.key_version ^ (1 << bit)) for bit in range(64)]
    return rows


def test_no_artifact_opens_through_a_row_with_any_bit_flipped() -> None:
    """A row names its artifact, and the artifact is expected to say the same."""
    wrapped, blob = _wrap(), _seal(b"plaintext")

    def open_through(row: WrappedDataKey) -> bytes:
        header = dataclasses.replace(HEADER, artifact_id=row.artifact_id)
        return _open(blob, data_key=unwrap_data_key(KEK, row), header=header, context=row.context)

    assert open_through(wrapped) == b"plaintext"
    for row in _flips(wrapped):
        with pytest.raises(CiphertextRejected):
            open_through(row)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda row: {"key_version": 2}, id="the key version is raised"),
        pytest.param(lambda row: {"key_version": -1}, id="the key version is negative"),
        pytest.param(lambda row: {"key_version": True}, id="the key version is a boolean"),
        pytest.param(lambda row: {"purpose": "audit"}, id="the purpose is another"),
        pytest.param(lambda row: {"purpose": "\u0430rtifacts"}, id="the purpose is a look-alike with a Cyrillic a"),
        pytest.param(lambda row: {"purpose": "artifacts\x00"}, id="the purpose has a NUL behind it"),
        pytest.param(lambda row: {"purpose": "a" * 65_536}, id="the purpose is too long to frame"),
        pytest.param(lambda row: {"purpose": "\ud800"}, id="the purpose is no Unicode"),
        pytest.param(lambda row: {"tenant_id": uuid.UUID(int=9)}, id="the tenant is another"),
        pytest.param(lambda row: {"context": b""}, id="the context is empty"),
        pytest.param(lambda row: {"context": bytes(70_000)}, id="the context is too long to frame"),
        pytest.param(lambda row: {"nonce": b""}, id="the nonce is empty"),
        pytest.param(
            lambda row: {"nonce": row.nonce + row.ciphertext[:1], "ciphertext": row.ciphertext[1:]},
            id="a byte moves to the nonce",
        ),
        pytest.param(lambda row: {"ciphertext": b""}, id="the ciphertext is empty"),
        pytest.param(lambda row: {"ciphertext": row.ciphertext[:-1]}, id="the ciphertext is cut"),
        pytest.param(lambda row: {"ciphertext": row.ciphertext + b"\x00"}, id="the ciphertext is longer"),
    ],
)
def test_unwrap_refuses_a_row_when(change: Callable[[WrappedDataKey], dict[str, object]]) -> None:
    wrapped = _wrap()
    with pytest.raises(CiphertextRejected):
        unwrap_data_key(KEK, dataclasses.replace(wrapped, **change(wrapped)))  # type: ignore[arg-type]


def test_unwrap_refuses_another_key() -> None:
    with pytest.raises(CiphertextRejected):
        unwrap_data_key(KeyMaterial.generate(), _wrap())


def test_rewrap_moves_the_data_key_to_the_new_key_only() -> None:
    blob, new_kek = _seal(b"plaintext"), KeyMaterial.generate()
    rewrapped = rewrap_data_key(KEK, new_kek, _wrap(), key_version=2)
    assert rewrapped.key_version == 2
    assert _open(blob, data_key=unwrap_data_key(new_kek, rewrapped), context=rewrapped.context) == b"plaintext"
    for kek, row in [(KEK, rewrapped), (new_kek, dataclasses.replace(rewrapped, key_version=1)), (new_kek, _wrap())]:
        with pytest.raises(CiphertextRejected):
            unwrap_data_key(kek, row)


def test_rewrap_refuses_a_row_that_does_not_open() -> None:
    with pytest.raises(CiphertextRejected):
        rewrap_data_key(KEK, KEK, dataclasses.replace(_wrap(), key_version=7), key_version=8)


def test_nothing_shows_a_key_when_printed() -> None:
    assert f"{DATA_KEY} {DATA_KEY!r}" == "<DataKey> <DataKey>"
    assert "ciphertext" not in repr(_wrap())


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_data_key_is_neither_copied_nor_pickled(take: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        take(DATA_KEY)


def test_data_key_equals_data_keys_only_and_is_no_key_of_a_dictionary() -> None:
    assert KeyMaterial.from_bytes(bytes(range(32))) != DATA_KEY
    with pytest.raises(TypeError, match="unhashable"):
        hash(DATA_KEY)


def test_refusals_say_nothing_of_keys_or_content() -> None:
    blob = bytearray(_seal(b"plaintext"))
    details = set()
    for place in range(len(blob)):
        blob[place] ^= 1
        with pytest.raises(CiphertextRejected) as caught:
            _open(blob)
        details.add(caught.value.detail)
        blob[place] ^= 1
    secrets = {"plaintext", str(HEADER.tenant_id), str(HEADER.model_id), bytes(range(32)).hex(), 'model"'}
    assert not [detail for detail in details for secret in secrets if secret in detail]
    assert len(details) <= 6
