"""A publisher's own sample: what is read of it, what is refused, and that a form which differs on it only is found out."""

import json
from typing import Any

import numpy as np
import pytest

from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.sample import read_sample
from maas_gateway.inference.conversion.trial import Array, CannotCompute, Declared, try_out
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, TensorSpec

X = TensorSpec("x", Datatype.FP32, (FREE, 2))
WORDS = TensorSpec("words", Datatype.BYTES, (FREE,))
DECLARED = [Declared("x", Datatype.FP32, (None, 2))]
OUTPUT = [Declared("y", Datatype.FP32, (None, 2))]


def entry(**changed: Any) -> dict[str, Any]:
    made = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4.5], **changed}
    return {name: value for name, value in made.items() if value is not None}


def sample(*entries: object) -> bytes:
    return json.dumps({"id": "passed over", "inputs": list(entries)}).encode()


def test_arrays_come_in_the_models_order() -> None:
    words = {"name": "words", "datatype": "BYTES", "shape": [2], "data": ["a", "é"], "parameters": {"odd": 1}}
    (x, texts), n_rows = read_sample(sample(words, entry(data=[[1, 2], [3, 4.5]])), [X, WORDS])
    assert n_rows == 2
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[1, 2], [3, 4.5]])
    assert texts.tolist() == [b"a", "é".encode()]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the sample is not JSON"),
        (b"[]", 'must be {"inputs"'),
        (b'{"inputs": {}}', 'must be {"inputs"'),
        (sample(), "missing input 'x'"),
        (sample(1), "inputs[0] has no name"),
        (sample(entry(), entry()), "an input is given twice"),
        (sample(entry(name="z")), "unknown input 'z'; the model's inputs are: x"),
        (sample(entry(datatype="FP64")), "input 'x': 'datatype' must be FP32"),
        (sample(entry(datatype=None)), "input 'x': 'datatype' must be FP32"),
        (sample(entry(shape=None)), "input 'x': 'shape' must be a list of sizes"),
        (sample(entry(shape=[2, -2])), "input 'x': 'shape' must be a list of sizes"),
        (sample(entry(shape=[1] * 64)), "input 'x': 'shape' must be a list of sizes"),
        (sample(entry(shape=[4, 1])), "input 'x': expected shape [-1, 2] and got [4, 1]"),
        (sample(entry(shape=[3, 2])), "input 'x': 'shape' has 6 elements and 'data' has 4"),
        (sample(entry(shape=[0, 2], data=[])), "input 'x': at least one row is needed"),
        (sample(entry(data=5)), "input 'x': 'data' must be a list"),
        (sample(entry(data=[1, 2, "3", 4])), "(at data[2])"),
        (b'{"inputs": [{"name": "x", "data": [NaN]}]}', "the sample is not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(content: bytes, sentence: str) -> None:
    with pytest.raises(NotConvertible) as caught:
        read_sample(content, [X])
    assert sentence in str(caught.value)


def double(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    return (arrays[0] * np.float32(2),)


def test_form_that_differs_on_the_sample_only_is_refused() -> None:
    def bounded(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        return (np.minimum(arrays[0] * np.float32(2), np.float32(50)),)

    assert try_out(DECLARED, OUTPUT, bounded, double).notes == []
    seen = try_out(DECLARED, OUTPUT, bounded, double, sample=sample(entry()))
    assert seen.notes == ["every form was compared on the 2 rows of the publisher's sample, too"]
    assert seen.n_compared == try_out(DECLARED, OUTPUT, bounded, double).n_compared + 4
    with pytest.raises(NotConvertible, match="differs by"):
        try_out(DECLARED, OUTPUT, bounded, double, sample=sample(entry(data=[1, 2, 3, 40])))


def test_model_that_does_not_run_on_its_sample_is_refused() -> None:
    def picky(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        if np.max(np.abs(arrays[0])) > 30:
            raise CannotCompute("it is out of range")
        return double(arrays)

    with pytest.raises(NotConvertible, match="does not run on the sample: it is out of range"):
        try_out(DECLARED, OUTPUT, picky, double, sample=sample(entry(data=[1, 2, 3, 40])))
