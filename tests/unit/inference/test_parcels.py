"""Arrays on their way to a process and back: the same arrive, and nothing that does not fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from maas_gateway.inference.parcels import ParcelRejected, pack, size_of, unpack
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import TensorSpec

NUMBERS = [datatype for datatype in Datatype if datatype is not Datatype.BYTES]
ROWS = TensorSpec("y", Datatype.FP32, (-1, 2))
WORDS = TensorSpec("w", Datatype.BYTES, (-1,))
FLAGS = TensorSpec("b", Datatype.BOOL, (3,))


def there_and_back(given_arrays: list[np.ndarray], specs: list[TensorSpec]) -> tuple[np.ndarray, ...]:
    header, parts = pack(given_arrays, specs)
    return unpack(header, bytearray(b"".join(parts)), specs)


@pytest.mark.thorough
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_what_is_packed_is_unpacked(data: st.DataObject) -> None:
    specs, sent = [], []
    for datatype in data.draw(st.lists(st.sampled_from(Datatype), max_size=4)):
        shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        if datatype is Datatype.BYTES:
            array = data.draw(arrays.arrays(object, shape, elements=st.binary(max_size=5)))
        else:
            array = data.draw(arrays.arrays(datatype.numpy, shape))
        specs.append(TensorSpec(f"t{len(specs)}", datatype, data.draw(st.sampled_from([shape, (-1,) * len(shape)]))))
        sent.append(array)
    got = there_and_back(sent, specs)
    for array, spec, arrived in zip(sent, specs, got, strict=True):
        assert (arrived.dtype, arrived.shape) == (spec.datatype.numpy, array.shape)
        assert arrived.flags.aligned
        assert arrived.flags.c_contiguous
        np.testing.assert_array_equal(arrived, array)


_ODD = st.sampled_from(["FP32", "BYTES", "BOOL", "", None, True, -1, 0, 1, 3, 4, 8, 1.5, 1 << 70])
_DESCRIBED = st.lists(st.lists(_ODD | st.lists(_ODD, max_size=2), max_size=4), max_size=3) | _ODD


@pytest.mark.thorough
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_nothing_but_a_parcel_is_unpacked(data: st.DataObject) -> None:
    specs = data.draw(st.lists(st.sampled_from([ROWS, WORDS, FLAGS]), max_size=3))
    try:
        got = unpack({"arrays": data.draw(_DESCRIBED)}, bytearray(data.draw(st.binary(max_size=40))), specs)
    except ParcelRejected:
        return
    assert [array.dtype for array in got] == [spec.datatype.numpy for spec in specs]


@pytest.mark.parametrize(
    ("described", "payload"),
    [
        pytest.param([], b"", id="no array"),
        pytest.param([["FP32", [1, 2], 8]] * 2, bytes(16), id="one array too many"),
        pytest.param("FP32", b"", id="no list"),
        pytest.param([["FP32", [1, 2]]], bytes(8), id="no size"),
        pytest.param([["FP64", [1, 2], 16]], bytes(16), id="another datatype"),
        pytest.param([["FP32", [2], 8]], bytes(8), id="another rank"),
        pytest.param([["FP32", [1, 3], 12]], bytes(12), id="another dimension"),
        pytest.param([["FP32", [-1, 2], 8]], bytes(8), id="a negative dimension"),
        pytest.param([["FP32", [True, 2], 8]], bytes(8), id="a dimension that is a truth value"),
        pytest.param([["FP32", [1.0, 2], 8]], bytes(8), id="a dimension that is no whole number"),
        pytest.param([["FP32", [1 << 62, 2], 1 << 65]], bytes(8), id="a dimension beyond all memory"),
        pytest.param([["FP32", [1, 2], 4]], bytes(4), id="fewer bytes than the shape asks for"),
        pytest.param([["FP32", [1, 2], 8]], bytes(7), id="fewer bytes than are announced"),
        pytest.param([["FP32", [1, 2], 8]], bytes(9), id="more bytes than are announced"),
        pytest.param([["FP32", [1, 2], -8]], bytes(8), id="a negative size"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(described: Any, payload: bytes) -> None:
    with pytest.raises(ParcelRejected):
        unpack({"arrays": described}, bytearray(payload), [ROWS])
    assert unpack({"arrays": [["FP32", [1, 2], 8]]}, bytearray(8), [ROWS])[0].shape == (1, 2)


@pytest.mark.parametrize(
    ("spec", "shape", "payload"),
    [
        pytest.param(FLAGS, [3], b"\0\1\2", id="a truth value of 2"),
        pytest.param(WORDS, [1], b"\0\0\0", id="half a length"),
        pytest.param(WORDS, [1], b"\2\0\0\0a", id="half a string"),
        pytest.param(WORDS, [1], b"\xff\xff\xff\xff", id="a string longer than all that came"),
        pytest.param(WORDS, [1], b"\1\0\0\0ab", id="more than its string"),
        pytest.param(WORDS, [2], b"\4\0\0\0abcd", id="a string too few"),
        pytest.param(WORDS, [1 << 40], b"\0\0\0\0", id="more strings than bytes"),
        pytest.param(WORDS, [0], b"\0\0\0\0", id="a string too many"),
    ],
)
def test_bytes_that_are_no_elements_are_refused(spec: TensorSpec, shape: list[int], payload: bytes) -> None:
    with pytest.raises(ParcelRejected):
        unpack({"arrays": [[spec.datatype.value, shape, len(payload)]]}, bytearray(payload), [spec])


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros((1, 2)), id="another datatype"),
        pytest.param(np.zeros((1, 3), np.float32), id="another dimension"),
        pytest.param(np.zeros(2, np.float32), id="another rank"),
    ],
)
def test_what_does_not_fit_is_not_packed(array: np.ndarray) -> None:
    with pytest.raises(ParcelRejected):
        pack([array], [ROWS])
    with pytest.raises(ParcelRejected):
        pack([], [ROWS])
    with pytest.raises(ParcelRejected):
        pack([np.array(["text"], object)], [WORDS])


def test_size_is_known_where_rows_decide_it() -> None:
    for datatype in NUMBERS:
        assert size_of([TensorSpec("y", datatype, (-1, 2, 3))], 5) == 30 * datatype.numpy.itemsize
    assert size_of([ROWS, FLAGS, TensorSpec("s", Datatype.FP64, ())], 4) == 32 + 3 + 8
    assert size_of([WORDS], 1) is None
    assert size_of([TensorSpec("y", Datatype.FP32, (-1, -1))], 1) is None
