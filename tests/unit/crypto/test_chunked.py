import io
import itertools
import os
from collections.abc import Callable

import pytest
import tink
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from maas_gateway.crypto.aead import REJECTED
from maas_gateway.crypto.chunked import SEGMENT_BYTES, StreamOpener, StreamSealer, plain_size, sealed_size
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected
from unit.crypto.sources import BreakingSource, LyingSource, MemorySource

KEY = KeyMaterial.from_bytes(bytes(range(32)))
AD = b"associated data"
FIRST = SEGMENT_BYTES - 40 - 16
NEXT = SEGMENT_BYTES - 16
BOUNDARIES = [FIRST - 1, FIRST, FIRST + 1, FIRST + NEXT - 1, FIRST + NEXT, FIRST + NEXT + 1]
SIZES = [0, 1, 100, *BOUNDARIES, 3 << 20, (5 << 20) + 7]
NOISE = os.urandom((5 << 20) + 7)

streaming_aead.register()


def _tink() -> streaming_aead.StreamingAead:
    """The official implementation under the same key: what we must agree with byte for byte."""
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(version=0, key_value=KEY.expose())
    key.params.ciphertext_segment_size = SEGMENT_BYTES
    key.params.derived_key_size = 32
    key.params.hkdf_hash_type = common_pb2.HashType.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add()
    entry.key_id = 1
    entry.status = tink_pb2.KeyStatusType.ENABLED
    entry.output_prefix_type = tink_pb2.OutputPrefixType.RAW
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    entry.key_data.value = key.SerializeToString()
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class _Unclosed(io.BytesIO):
    """Keeps its bytes when tink closes it."""

    def close(self) -> None:
        pass


def _seal(plaintext: bytes, *, step: int = SEGMENT_BYTES, associated_data: bytes = AD) -> bytes:
    sealer = StreamSealer(KEY, associated_data)
    view = memoryview(plaintext)
    parts = [sealer.update(view[start : start + step]) for start in range(0, len(plaintext), step)]
    return b"".join([*parts, sealer.finish()])


def _open(sealed: bytes | bytearray, *, key: KeyMaterial = KEY, associated_data: bytes = AD) -> bytes:
    opener = StreamOpener(key, associated_data, MemorySource(sealed))
    target = bytearray(opener.size_bytes)
    opener.open_into(memoryview(target))
    return bytes(target)


@pytest.fixture(scope="module")
def plaintext() -> bytes:
    return NOISE[: FIRST + NEXT + 5000]


@pytest.fixture(scope="module")
def sealed(plaintext: bytes) -> bytes:
    return _seal(plaintext)


@pytest.fixture(scope="module")
def other(plaintext: bytes) -> bytes:
    return _seal(plaintext)


@pytest.mark.parametrize("n_bytes", SIZES)
def test_tink_opens_what_we_sealed(n_bytes: int) -> None:
    sealed = _seal(NOISE[:n_bytes])
    with _tink().new_decrypting_stream(io.BytesIO(sealed), AD) as stream:
        assert stream.read() == NOISE[:n_bytes]


@pytest.mark.parametrize("n_bytes", SIZES)
def test_open_into_returns_what_tink_sealed(n_bytes: int) -> None:
    sealed = _Unclosed()
    with _tink().new_encrypting_stream(sealed, AD) as stream:
        stream.write(NOISE[:n_bytes])
    assert len(sealed.getvalue()) == sealed_size(n_bytes)
    assert _open(sealed.getvalue()) == NOISE[:n_bytes]


def test_tink_refuses_what_we_sealed_for_other_associated_data() -> None:
    with pytest.raises(tink.TinkError), _tink().new_decrypting_stream(io.BytesIO(_seal(b"plain")), b"other") as stream:
        stream.read()


@pytest.mark.parametrize("n_bytes", SIZES)
def test_sizes_agree_with_what_is_sealed(n_bytes: int) -> None:
    sealed = _seal(NOISE[:n_bytes])
    assert len(sealed) == sealed_size(n_bytes)
    assert plain_size(len(sealed)) == n_bytes


@given(st.integers(0, 2**52))
@example(0)
@example(FIRST)
@example(FIRST + 1)
def test_plain_size_undoes_sealed_size(n_bytes: int) -> None:
    try:
        assert plain_size(sealed_size(n_bytes)) == n_bytes
    except ValueError:
        assert n_bytes > (2**32 - 1) * NEXT - 40


@pytest.mark.parametrize("n_bytes", [-1, (2**32 - 1) * NEXT - 39, 2**63, 2**200])
def test_sealed_size_refuses_what_no_stream_holds(n_bytes: int) -> None:
    with pytest.raises(ValueError, match="segments"):
        sealed_size(n_bytes)


def test_sizes_reach_to_the_last_segment_that_a_nonce_can_count() -> None:
    assert plain_size(sealed_size((2**32 - 1) * NEXT - 40)) == (2**32 - 1) * NEXT - 40


@pytest.mark.parametrize(
    "n_bytes",
    [-(2**63), -1, 0, 39, 40, 55, SEGMENT_BYTES + 1, SEGMENT_BYTES + 16, 3 * SEGMENT_BYTES + 16, 2**53, 2**63, 2**200],
)
def test_plain_size_refuses_a_length_that_no_stream_has(n_bytes: int) -> None:
    with pytest.raises(CiphertextRejected):
        plain_size(n_bytes)


@settings(max_examples=40, deadline=None)
@given(
    n_bytes=st.sampled_from([0, 1, 100, *BOUNDARIES]) | st.integers(0, 2 * SEGMENT_BYTES + 100),
    cuts=st.lists(st.integers(0, 2 * SEGMENT_BYTES + 100), max_size=6),
    most_bytes=st.sampled_from([1 << 62, 700_001]),
)
def test_open_into_returns_the_plaintext_however_it_was_given(n_bytes: int, cuts: list[int], most_bytes: int) -> None:
    sealer = StreamSealer(KEY, AD)
    places = [0, *sorted(min(cut, n_bytes) for cut in cuts), n_bytes]
    parts = [sealer.update(NOISE[start:stop]) for start, stop in itertools.pairwise(places)]
    sealed = b"".join([*parts, sealer.finish()])
    assert len(sealed) == sealed_size(n_bytes)
    opener = StreamOpener(KEY, AD, MemorySource(sealed, most_bytes=most_bytes))
    target = bytearray(n_bytes)
    opener.open_into(memoryview(target))
    assert target == NOISE[:n_bytes]


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_update_takes_every_form_of_bytes(form: Callable[[bytes], bytes]) -> None:
    sealer = StreamSealer(KEY, AD)
    assert _open(sealer.update(form(b"plain")) + sealer.finish()) == b"plain"


def test_update_holds_back_a_full_segment_until_more_follows() -> None:
    sealer = StreamSealer(KEY, AD)
    assert len(sealer.update(NOISE[:FIRST])) == 40
    assert len(sealer.update(b"")) == 0
    assert len(sealer.update(b"x")) == FIRST + 16
    assert len(sealer.update(NOISE[: NEXT - 1])) == 0
    assert len(sealer.update(NOISE[: 2 * NEXT])) == 2 * SEGMENT_BYTES
    assert len(sealer.finish()) == SEGMENT_BYTES


def test_sealer_refuses_to_go_on_when_finished() -> None:
    sealer = StreamSealer(KEY, AD)
    sealer.finish()
    with pytest.raises(RuntimeError, match="finished"):
        sealer.update(b"more")
    with pytest.raises(RuntimeError, match="finished"):
        sealer.finish()


def test_sealer_refuses_more_segments_than_a_nonce_can_count() -> None:
    sealer = StreamSealer(KEY, AD)
    sealer._index = 2**32 - 1
    with pytest.raises(ValueError, match="segments"):
        sealer.update(NOISE[: NEXT + 1])
    with pytest.raises(ValueError, match="segments"):
        sealer.finish()


def test_sealer_keeps_no_plaintext_when_finished() -> None:
    sealer = StreamSealer(KEY, AD)
    sealer.update(b"plain")
    sealer.finish()
    assert not sealer._pending


def test_sealing_the_same_twice_gives_other_bytes() -> None:
    heads = set()
    for _ in range(500):
        sealed = _seal(b"the same plaintext")
        heads |= {sealed[1:33], sealed[33:40], sealed[40:]}
    assert len(heads) == 1500


def test_opener_reads_the_stream_where_it_begins_in_its_source(plaintext: bytes, sealed: bytes) -> None:
    opener = StreamOpener(KEY, AD, MemorySource(b"prefix" + sealed), offset=6)
    target = bytearray(opener.size_bytes)
    opener.open_into(memoryview(target))
    assert target == plaintext
    assert opener.read_at(len(plaintext) - 3, 99) == plaintext[-3:]


def test_open_into_leaves_the_bytes_around_its_target_alone() -> None:
    memory = bytearray(b"\xaa" * 25)
    StreamOpener(KEY, AD, MemorySource(_seal(b"plain"))).open_into(memoryview(memory)[10:15])
    assert memory == b"\xaa" * 10 + b"plain" + b"\xaa" * 10


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(memoryview(bytearray(4)), id="too short"),
        pytest.param(memoryview(bytearray(6)), id="too long"),
        pytest.param(memoryview(bytes(5)), id="read only"),
        pytest.param(memoryview(bytearray(20)).cast("i"), id="integers"),
        pytest.param(memoryview(bytearray(5)).cast("B", (1, 5)), id="two dimensions"),
    ],
)
def test_open_into_refuses_a_target_that_does_not_fit(target: memoryview) -> None:
    with pytest.raises(ValueError, match="target"):
        StreamOpener(KEY, AD, MemorySource(_seal(b"plain"))).open_into(target)


# Tampering. The stream has three segments: a full first, a full second, a short last.
SECOND, LAST = SEGMENT_BYTES, 2 * SEGMENT_BYTES


def _flip(sealed: bytes, place: int) -> bytes:
    return sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]


TAMPERED: list[tuple[str, Callable[[bytes, bytes], bytes]]] = [
    ("nothing is left", lambda s, o: b""),
    ("only the header is left", lambda s, o: s[:40]),
    ("part of the header is left", lambda s, o: s[:39]),
    ("the last byte is cut", lambda s, o: s[:-1]),
    ("the last tag is cut", lambda s, o: s[:-16]),
    ("the last segment is cut", lambda s, o: s[:LAST]),
    ("the last two segments are cut", lambda s, o: s[:SECOND]),
    ("the last segment is empty", lambda s, o: s[: LAST + 16]),
    ("a byte is appended", lambda s, o: s + b"\x00"),
    ("the last segment is appended again", lambda s, o: s + s[LAST:]),
    ("a segment is appended", lambda s, o: s + s[SECOND:LAST]),
    (
        "two segments are swapped",
        lambda s, o: s[:40] + s[SECOND : LAST - 40] + s[LAST - 40 : LAST] + s[40:SECOND] + s[LAST:],
    ),
    ("the second segment comes twice", lambda s, o: s[:LAST] + s[SECOND:]),
    ("the first segment is dropped", lambda s, o: s[:40] + s[SECOND:]),
    ("the second segment is dropped", lambda s, o: s[:SECOND] + s[LAST:]),
    ("the first segment is another stream's", lambda s, o: s[:40] + o[40:SECOND] + s[SECOND:]),
    ("the second segment is another stream's", lambda s, o: s[:SECOND] + o[SECOND:LAST] + s[LAST:]),
    ("the last segment is another stream's", lambda s, o: s[:LAST] + o[LAST:]),
    ("the header is another stream's", lambda s, o: o[:40] + s[40:]),
    ("the salt is another stream's", lambda s, o: s[:1] + o[1:33] + s[33:]),
    ("the nonce prefix is another stream's", lambda s, o: s[:33] + o[33:40] + s[40:]),
    ("the header says another length", lambda s, o: b"\x29" + s[1:]),
    ("the header says no length", lambda s, o: b"\x00" + s[1:]),
    ("a bit of the first segment is flipped", lambda s, o: _flip(s, 40)),
    ("a bit of the first tag is flipped", lambda s, o: _flip(s, SECOND - 1)),
    ("a bit of the second segment is flipped", lambda s, o: _flip(s, SECOND)),
    ("a bit of the second tag is flipped", lambda s, o: _flip(s, LAST - 16)),
    ("a bit of the last segment is flipped", lambda s, o: _flip(s, LAST)),
    ("a bit of the last tag is flipped", lambda s, o: _flip(s, len(s) - 1)),
]


@pytest.mark.parametrize("tamper", [case[1] for case in TAMPERED], ids=[case[0] for case in TAMPERED])
def test_open_into_refuses_and_leaves_no_plaintext_when(
    tamper: Callable[[bytes, bytes], bytes], sealed: bytes, other: bytes
) -> None:
    tampered = tamper(sealed, other)
    targets: list[bytearray] = []

    def open_it() -> None:
        opener = StreamOpener(KEY, AD, MemorySource(tampered))
        targets.append(bytearray(b"\xaa" * opener.size_bytes))
        opener.open_into(memoryview(targets[0]))

    assert tampered != sealed
    with pytest.raises(CiphertextRejected, match=f"^{REJECTED}$"):
        open_it()
    assert all(set(target.strip(b"\xaa")) <= {0} for target in targets)


@pytest.mark.parametrize("place", [40, SECOND - 1, SECOND, LAST - 1, LAST])
def test_open_into_zeroes_every_segment_that_it_wrote_when_one_is_refused(sealed: bytes, place: int) -> None:
    opener = StreamOpener(KEY, AD, MemorySource(_flip(sealed, place)))
    target = bytearray(b"\xaa" * opener.size_bytes)
    with pytest.raises(CiphertextRejected):
        opener.open_into(memoryview(target))
    end = min(FIRST + place // SEGMENT_BYTES * NEXT, opener.size_bytes)
    assert target[:end] == bytes(end)
    assert set(target[end:]) <= {0xAA}


def test_open_into_zeroes_what_it_wrote_when_the_source_breaks(sealed: bytes) -> None:
    opener = StreamOpener(KEY, AD, BreakingSource(sealed, breaks_at=LAST))
    target = bytearray(b"\xaa" * opener.size_bytes)
    with pytest.raises(OSError, match="Input/output"):
        opener.open_into(memoryview(target))
    assert not any(target)


def test_opener_refuses_another_key_and_other_associated_data(sealed: bytes) -> None:
    with pytest.raises(CiphertextRejected):
        _open(sealed, key=KeyMaterial.generate())
    with pytest.raises(CiphertextRejected):
        _open(sealed, associated_data=b"")


def test_opener_refuses_every_byte_change_of_the_header_and_of_the_last_tag(sealed: bytes) -> None:
    """What lies between is altered byte by byte in test_envelope."""
    content = bytearray(sealed)
    source = MemorySource(content)
    target = memoryview(bytearray(plain_size(len(sealed))))
    for place in [*range(100), *range(len(sealed) - 100, len(sealed))]:
        content[place] ^= 0x55
        with pytest.raises(CiphertextRejected):
            StreamOpener(KEY, AD, source).open_into(target)
        content[place] ^= 0x55
    StreamOpener(KEY, AD, source).open_into(target)


@pytest.mark.parametrize("size_bytes", [2**53, 2**63, 2**64 + 99])
def test_opener_allocates_nothing_for_an_absurd_size(size_bytes: int) -> None:
    with pytest.raises(CiphertextRejected):
        StreamOpener(KEY, AD, MemorySource(_seal(b"plain"), size_bytes=size_bytes))


def test_opener_refuses_a_source_that_is_shorter_than_it_says(sealed: bytes) -> None:
    source = MemorySource(sealed[: LAST - 1000], size_bytes=len(sealed))
    opener = StreamOpener(KEY, AD, source)
    target = bytearray(opener.size_bytes)
    with pytest.raises(CiphertextRejected):
        opener.open_into(memoryview(target))
    assert not any(target)
    with pytest.raises(CiphertextRejected):
        opener.read_at(0, 1)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda n: -1, id="a negative number"),
        pytest.param(lambda n: n + 1, id="more than it was asked for"),
        pytest.param(lambda n: 0, id="nothing"),
    ],
)
def test_opener_refuses_a_source_that_answers(lie: Callable[[int], int]) -> None:
    with pytest.raises(CiphertextRejected):
        StreamOpener(KEY, AD, LyingSource(_seal(b"plain"), lie))


# Random access.


@settings(max_examples=60, deadline=None)
@given(
    reads=st.lists(
        st.tuples(
            st.sampled_from([0, FIRST - 5, FIRST, FIRST + NEXT - 5]) | st.integers(0, FIRST + NEXT + 6000),
            st.sampled_from([0, 1, 10, 2**70]) | st.integers(0, 2 * SEGMENT_BYTES),
        ),
        max_size=6,
    )
)
def test_read_at_returns_the_same_as_the_whole(plaintext: bytes, sealed: bytes, reads: list[tuple[int, int]]) -> None:
    opener = StreamOpener(KEY, AD, MemorySource(sealed))
    for offset, n_bytes in reads:
        assert opener.read_at(offset, n_bytes) == plaintext[offset : offset + n_bytes]


def test_read_at_answers_nothing_beyond_the_end_and_in_an_empty_stream() -> None:
    assert StreamOpener(KEY, AD, MemorySource(_seal(b"plain"))).read_at(5, 1) == b""
    assert StreamOpener(KEY, AD, MemorySource(_seal(b""))).read_at(0, 1) == b""


@pytest.mark.parametrize(("offset", "n_bytes"), [(-1, 1), (0, -1)])
def test_read_at_refuses_a_negative_place_or_count(offset: int, n_bytes: int) -> None:
    with pytest.raises(ValueError, match="not negative"):
        StreamOpener(KEY, AD, MemorySource(_seal(b"plain"))).read_at(offset, n_bytes)


@pytest.mark.parametrize("tampered", [slice(0, LAST), slice(0, SECOND), slice(0, -1)], ids=["segment", "two", "byte"])
def test_read_at_notices_a_cut_before_any_part_is_used(sealed: bytes, tampered: slice) -> None:
    opener = StreamOpener(KEY, AD, MemorySource(sealed[tampered]))
    for _ in range(2):
        with pytest.raises(CiphertextRejected):
            opener.read_at(0, 1)


def test_read_at_refuses_a_changed_segment_and_still_reads_the_others(plaintext: bytes, sealed: bytes) -> None:
    opener = StreamOpener(KEY, AD, MemorySource(_flip(sealed, SECOND + 7)))
    assert opener.read_at(0, 10) == plaintext[:10]
    for _ in range(2):
        with pytest.raises(CiphertextRejected):
            opener.read_at(FIRST - 1, 10)
        assert not any(opener._lane.plain())
    assert opener.read_at(0, 10) == plaintext[:10]


def test_read_at_opens_a_segment_once_when_reads_stay_in_it(sealed: bytes) -> None:
    source = MemorySource(sealed)
    opener = StreamOpener(KEY, AD, source)
    opener.read_at(0, 1)
    source.content = b""
    assert len(opener.read_at(1, FIRST - 1)) == FIRST - 1
    with pytest.raises(CiphertextRejected):
        opener.read_at(FIRST, 1)
