"""JSON values become arrays of exactly the datatype, or are refused with their place."""

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_gateway.errors import SignatureMismatch
from maas_gateway.tensors.arrays import MAX_RANK, Dialect, Strings, array_from_json, bytes_from_base64, shape_of
from maas_gateway.tensors.datatypes import Datatype

NAMES = {datatype: datatype.value for datatype in Datatype}
UTF8 = Dialect(NAMES, Strings.UTF8)
BASE64 = Dialect(NAMES, Strings.BASE64)
OBJECTS = Dialect(NAMES, Strings.UTF8_OR_B64_OBJECT)
INTEGERS = [datatype for datatype in Datatype if datatype.is_integer]
NUMBERS = [*INTEGERS, Datatype.FP32, Datatype.FP64]


def read(value: object, datatype: Datatype, dialect: Dialect = UTF8) -> np.ndarray:
    return array_from_json(value, datatype, dialect, lambda fault: f"v{fault.path}: {fault.reason}")


def refusal(value: object, datatype: Datatype, dialect: Dialect = UTF8) -> str:
    with pytest.raises(SignatureMismatch) as caught:
        read(value, datatype, dialect)
    return caught.value.detail


@pytest.mark.parametrize("datatype", [*NUMBERS, Datatype.BOOL], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (1, 1, 2), (2, 3), (2, 0), (1, 0)], ids=str)
def test_a_rectangular_value_reads_as_numpy_reads_it(datatype: Datatype, shape: tuple[int, ...]) -> None:
    wanted = (np.arange(math.prod(shape)).reshape(shape) % 2).astype(datatype.numpy)
    array = read(wanted.tolist(), datatype)
    np.testing.assert_array_equal(array, wanted, strict=True)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.dtype.isnative


@pytest.mark.parametrize("datatype", INTEGERS, ids=str)
def test_an_integer_is_taken_to_the_ends_of_its_range_and_no_further(datatype: Datatype) -> None:
    ends = np.iinfo(datatype.numpy)
    assert read([int(ends.min), int(ends.max)], datatype).tolist() == [ends.min, ends.max]
    for beyond in (int(ends.min) - 1, int(ends.max) + 1, 10**30):
        detail = refusal([[0], [beyond]], datatype)
        assert detail == f"v[1][0]: JSON Value: {beyond} is out of range for type: {datatype}"


WRONG = [
    pytest.param(True, "true Type: True", id="true is no number"),
    pytest.param(False, "false Type: False", id="false is no number"),
    pytest.param(None, "null Type: Null", id="null is no number"),
    pytest.param("1", '"1" Type: String', id="a string is no number"),
    pytest.param({}, "{} Type: Object", id="an empty object is no number"),
    pytest.param({"b64": "YQ=="}, "{…} Type: Object", id="an object is no number"),
]


@pytest.mark.parametrize("datatype", NUMBERS, ids=str)
@pytest.mark.parametrize(("value", "said"), WRONG)
def test_what_is_no_number_is_refused_with_its_place(value: object, said: str, datatype: Datatype) -> None:
    assert refusal([[1, 2], [3, value]], datatype) == (
        f"v[1][1]: JSON Value: {said} is not of expected type: {datatype}"
    )
    assert refusal(value, datatype).startswith(f"v: JSON Value: {said}")
    assert refusal([[1], value], datatype).startswith(f"v[1]: JSON Value: {said}")


@pytest.mark.parametrize("datatype", INTEGERS, ids=str)
@pytest.mark.parametrize("value", [1.0, 1.5, math.nan, math.inf], ids=str)
def test_an_integer_takes_no_real_number(value: object, datatype: Datatype) -> None:
    shown = json.dumps(value)
    assert f"v[1]: JSON Value: {shown} Type: Number" in refusal([1, value], datatype)


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", None], ids=repr)
def test_a_boolean_is_true_or_false_only(value: object) -> None:
    assert "is not of expected type: BOOL" in refusal([True, value], Datatype.BOOL)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param(
            [[1, 2], [3]], "v[1]: Encountered list at unexpected size: 1 at level: 1 expected size: 2", id="short"
        ),
        pytest.param([[[1], [2]], [[3], [4, 5]]], "v[1][1]: Encountered list at unexpected size: 2", id="deep"),
        pytest.param([[1], 2], "v[1]: Encountered value at level: 1 where a list was expected", id="value among lists"),
        pytest.param([1, [2]], "v[1]: Encountered list at level: 1 where a value was expected", id="list among values"),
        pytest.param([[], [1]], "v[1]: Encountered list at unexpected size: 1", id="empty and not"),
    ],
)
def test_ragged_lists_are_refused_with_their_place(value: object, said: str) -> None:
    assert refusal(value, Datatype.FP32).startswith(said)


def test_nesting_is_bounded_without_recursion() -> None:
    value = 1.0
    for _ in range(MAX_RANK):
        value = [value]
    assert read(value, Datatype.FP32).ndim == MAX_RANK
    assert "nested more than" in refusal([value], Datatype.FP32)
    pair = [value, value]
    assert "nested more than" in refusal(pair, Datatype.FP32)
    for _ in range(100_000):
        value = [value]
    assert "nested more than" in refusal(value, Datatype.FP32)
    assert shape_of(value) is None
    while isinstance(value, list):  # taken apart by hand: freeing it in one go is deep too
        value = value[0]


def test_a_number_beyond_float32_is_infinite_there() -> None:
    assert read([1e40, -1e40], Datatype.FP32).tolist() == [math.inf, -math.inf]
    assert read([1e40], Datatype.FP64).tolist() == [1e40]


def test_an_integer_beyond_float64_is_out_of_range() -> None:
    assert "v[1]: JSON Value: 1000" in refusal([0, 10**400], Datatype.FP64)
    assert len(refusal([10**400], Datatype.FP32)) < 150


def test_float64_keeps_every_digit() -> None:
    assert read([0.1, 5e-324, 2**53], Datatype.FP64).tolist() == [0.1, 5e-324, 2.0**53]


@pytest.mark.parametrize(
    ("dialect", "value", "wanted"),
    [
        pytest.param(UTF8, ["ä", ""], ["ä".encode(), b""], id="UTF-8"),
        pytest.param(BASE64, ["YWI=", "YWI", "", "Y W\nI="], [b"ab", b"ab", b"", b"ab"], id="base64"),
        pytest.param(OBJECTS, ["YQ==", {"b64": "YQ=="}], [b"YQ==", b"a"], id="strings and base64 objects"),
    ],
)
def test_strings_become_bytes(dialect: Dialect, value: object, wanted: list[bytes]) -> None:
    array = read(value, Datatype.BYTES, dialect)
    assert array.dtype == np.object_
    assert array.tolist() == wanted


@pytest.mark.parametrize(
    ("dialect", "value", "said"),
    [
        pytest.param(UTF8, ["a", 1], "v[1]: JSON Value: 1 Type: Number is not of", id="number"),
        pytest.param(UTF8, ["a", None], "v[1]: JSON Value: null Type: Null is not of", id="null"),
        pytest.param(UTF8, [{"b64": "YQ=="}], "v[0]: JSON Value: {…} Type: Object is not of", id="object"),
        pytest.param(UTF8, [["a"], ["\ud800"]], 'v[1][0]: JSON Value: "\\ud800" has a surrogate', id="surrogate"),
        pytest.param(UTF8, [["a"], ["b", "c"]], "v[1]: Encountered list at unexpected size", id="ragged"),
        pytest.param(BASE64, ["YQ==", "Y"], "v[1]: Unable to base64 decode", id="one digit"),
        pytest.param(BASE64, ["Y-_="], "v[0]: Unable to base64 decode", id="another alphabet"),
        pytest.param(BASE64, ["ä"], "v[0]: Unable to base64 decode", id="no ASCII"),
        pytest.param(BASE64, ["="], "v[0]: Unable to base64 decode", id="padding alone"),
        pytest.param(OBJECTS, [{"b64": 1}], "v[0]: JSON Value: {…} not formatted correctly for base64", id="no string"),
        pytest.param(OBJECTS, [{"b64": "", "c": 1}], "v[0]: JSON Value: {…} not formatted correctly", id="two keys"),
    ],
)
def test_other_strings_are_refused_with_their_place(dialect: Dialect, value: object, said: str) -> None:
    assert refusal(value, Datatype.BYTES, dialect).startswith(said)


def test_a_refusal_is_short_and_printable_whatever_was_sent() -> None:
    for value in ["x" * 10**6, "\ud800" * 100, 10**4000, [[1], "y" * 10**6]]:
        detail = refusal([value], Datatype.INT8)
        assert len(detail) < 600
        detail.encode()


@settings(deadline=None)
@given(st.binary())
def test_base64_round_trips(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    assert bytes_from_base64(text) == content
    assert bytes_from_base64(text.rstrip("=")) == content


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-300, 300),
    st.integers(),
    st.floats(),
    st.text(max_size=2),
    st.just({}),
    st.just({"b64": "YQ=="}),
    st.just([]),
)


@settings(deadline=None)
@given(
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=12),
    st.sampled_from([datatype for datatype in Datatype if datatype is not Datatype.FP16]),
    st.sampled_from([UTF8, BASE64, OBJECTS]),
)
def test_a_value_is_refused_or_is_kept_exactly(value: object, datatype: Datatype, dialect: Dialect) -> None:
    try:
        array = read(value, datatype, dialect)
    except SignatureMismatch:
        return
    assert array.dtype == datatype.numpy
    assert array.shape == shape_of(value)
    if datatype is Datatype.BYTES:
        return
    flat = [value]
    while any(isinstance(element, list) for element in flat):
        flat = [inner for outer in flat for inner in outer]
    wanted = {"f": (int, float), "b": (bool,)}.get(datatype.numpy.kind, (int,))
    assert all(type(element) in wanted for element in flat)
    if not datatype.is_float:
        assert array.ravel().tolist() == flat
    elif datatype is Datatype.FP64:
        np.testing.assert_array_equal(array.ravel(), [float(element) for element in flat])
