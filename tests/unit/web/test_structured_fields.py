"""Structured fields: strings and byte sequences are read as RFC 9651 says, and nothing else is."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.web.structured_fields import parse_dictionary, parse_item

TEXTS = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E))


def _string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _sequence(content: bytes) -> str:
    return f":{base64.b64encode(content).decode()}:"


@given(content=st.binary(), text=TEXTS)
def test_what_is_written_is_read(content: bytes, text: str) -> None:
    assert parse_item(_sequence(content)) == content
    assert parse_item(_string(text)) == text
    written = f"sig={_sequence(content)},\t keyid={_string(text)}"
    assert parse_dictionary(f"  {written} ") == {"sig": content, "keyid": text}


def test_byte_sequence_may_lack_its_padding() -> None:
    assert parse_item(":cHJldGVuZA:") == parse_item(":cHJldGVuZA==:") == b"pretend"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param("", id="nothing"),
        pytest.param("cHJldGVuZA==", id="base64 alone"),
        pytest.param(":cHJldGVuZA==", id="no colon behind"),
        pytest.param(":cHJl dGVuZA==:", id="a space inside"),
        pytest.param(":cHJl=dGVuZA:", id="padding inside"),
        pytest.param(":cHJldGVuZ-_:", id="the alphabet of URLs"),
        pytest.param(":A:", id="a letter that encodes no byte"),
        pytest.param(":cHJl: x", id="something behind"),
        pytest.param(":cHJl:;a=1", id="a parameter"),
        pytest.param(":cHJl:, :cHJl:", id="a list"),
        pytest.param('"a', id="no quote behind"),
        pytest.param('"a\\b"', id="an escape of a letter"),
        pytest.param('"é"', id="a letter that is no ASCII"),
        pytest.param('"\x00"', id="a NUL"),
        pytest.param("42", id="a number"),
        pytest.param("?1", id="a boolean"),
        pytest.param("token", id="a token"),
        pytest.param("(:cHJl:)", id="an inner list"),
    ],
)
def test_item_is_refused_that_is_neither_a_string_nor_a_byte_sequence(field: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_item(field)
    with pytest.raises(ValueError, match=r"."):
        parse_dictionary(f"sig={field}" if "," not in field else field)


@pytest.mark.parametrize(
    "field",
    [
        pytest.param("", id="nothing"),
        pytest.param("sig", id="a key without a value"),
        pytest.param("sig=", id="a key with an empty value"),
        pytest.param("sig = :cHJl:", id="spaces around the sign"),
        pytest.param("Sig=:cHJl:", id="a capital"),
        pytest.param("=:cHJl:", id="no key"),
        pytest.param("sig=:cHJl:,", id="a comma behind"),
        pytest.param(",sig=:cHJl:", id="a comma before"),
        pytest.param("sig=:cHJl:; keyid=:cHJl:", id="a semicolon"),
        pytest.param("sig=:cHJl: keyid=:cHJl:", id="no comma"),
        pytest.param("sig=:cHJl:, sig=:cHJl:", id="a key twice"),
        pytest.param("keyid=abc;sig=:cHJl:", id="a token with a parameter"),
    ],
)
def test_dictionary_is_refused_that_is(field: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_dictionary(field)
