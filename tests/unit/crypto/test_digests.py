import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.crypto.digests import canonical_json, parse_canonical, sha256, sha256_hex

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_canonical_json_sorts_keys_as_rfc_8785_section_3_2_3_does() -> None:
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical_json(value)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


def test_canonical_json_spells_text_and_literals_as_rfc_8785_section_3_2_4_does() -> None:
    """The example of section 3.2.2 without its numbers, and its bytes of section 3.2.4."""
    value = {"string": '\u20ac$\u000f\nA\'B"\\\\"/', "literals": [None, True, False]}
    assert canonical_json(value) == bytes.fromhex(
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d"
    )


def test_canonical_json_escapes_only_what_json_demands() -> None:
    text = "".join(map(chr, range(0x20))) + '"\\/\x7f\u2028'
    assert canonical_json(text).decode() == (
        '"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f'
        "\\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f"
        '\\"\\\\/\x7f\u2028"'
    )


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param(1.0, TypeError, id="a float"),
        pytest.param({"a": [1.5]}, TypeError, id="a float inside"),
        pytest.param((1, 2), TypeError, id="a tuple"),
        pytest.param(b"x", TypeError, id="bytes"),
        pytest.param({1: "a"}, TypeError, id="a key that is a number"),
        pytest.param({None: "a", "b": 1}, TypeError, id="a key that is null"),
        pytest.param(2**53, ValueError, id="an integer that floats cannot tell from its neighbour"),
        pytest.param(-(2**53), ValueError, id="a negative one of that kind"),
        pytest.param("\ud800", ValueError, id="half a surrogate pair"),
        pytest.param({"\udc00": 1}, ValueError, id="half a surrogate pair as a key"),
    ],
)
def test_canonical_json_refuses_what_has_no_one_spelling(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        canonical_json(value)


def test_canonical_json_takes_integers_to_both_ends() -> None:
    assert canonical_json([2**53 - 1, -(2**53) + 1, 0]) == b"[9007199254740991,-9007199254740991,0]"


def test_canonical_json_refuses_deep_nesting_and_rings() -> None:
    deep: object = 1
    for _ in range(32):
        deep = [deep]
    assert canonical_json(deep) == b"[" * 32 + b"1" + b"]" * 32
    with pytest.raises(ValueError, match="too deep"):
        canonical_json([deep])
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(ValueError, match="too deep"):
        canonical_json(ring)


@given(VALUES)
def test_parse_canonical_returns_the_value_that_was_spelt(value: object) -> None:
    spelling = canonical_json(value)
    assert parse_canonical(spelling) == value
    assert json.loads(spelling) == value


@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_parse_canonical_accepts_only_its_own_spelling(data: bytes) -> None:
    try:
        value = parse_canonical(data)
    except ValueError:
        return
    assert canonical_json(value) == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a":1,"a":1}', id="a key said twice"),
        pytest.param(b'{"b":1,"a":1}', id="keys out of order"),
        pytest.param('{"\ufb33":1,"\U0001f600":1}'.encode(), id="keys ordered by code points, not UTF-16 units"),
        pytest.param(b'{"a": 1}', id="white space inside"),
        pytest.param(b'{"a":1}\n', id="white space behind"),
        pytest.param(b'{"a":1}{}', id="more behind"),
        pytest.param(b'"\\u0061"', id="an escape that is not needed"),
        pytest.param(b'"\\u000F"', id="an escape in capitals"),
        pytest.param(b'"\\/"', id="an escaped slash"),
        pytest.param(b"1.0", id="a float"),
        pytest.param(b"1e2", id="an exponent"),
        pytest.param(b"-0", id="minus zero"),
        pytest.param(b"01", id="a leading zero"),
        pytest.param(b"9007199254740992", id="an integer too large"),
        pytest.param(b"9" * 5000, id="an integer of 5000 digits"),
        pytest.param(b"NaN", id="not a number"),
        pytest.param(b"-Infinity", id="infinity"),
        pytest.param(b"\xef\xbb\xbf1", id="a byte order mark"),
        pytest.param('"a"'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'"\xff"', id="no UTF-8"),
        pytest.param(b'"\\ud800"', id="half a surrogate pair"),
        pytest.param(b"[" * 100_000, id="deep nesting without end"),
        pytest.param(b"[" * 40 + b"]" * 40, id="deep nesting"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_parse_canonical_refuses_with_one_sentence_what_is_not_canonical(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not canonical JSON$"):
        parse_canonical(data)


def test_sha256_agrees_with_the_fips_180_4_example() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"abc").hex() == sha256_hex(b"abc") == expected
    assert sha256(b"") == hashlib.sha256().digest()
