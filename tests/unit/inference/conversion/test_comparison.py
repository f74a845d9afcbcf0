"""How far a plan may differ from its model, and what the converter's objection becomes."""

import numpy as np
import pytest

from maas_gateway.inference.conversion.comparison import Difference
from maas_gateway.inference.conversion.refusal import (
    MAX_CHARACTERS,
    NotConvertible,
    converter_reason,
    raise_if_out_of_memory,
    sentence,
)


def difference(want: object, got: object) -> float:
    found = Difference("y")
    found.add(np.asarray(want), np.asarray(got))
    return found.relative()


def test_difference_is_relative_to_the_largest_value() -> None:
    assert difference(np.float32([0.5, -200.0]), np.float32([0.501, -200.0])) == pytest.approx(5e-6, rel=1e-2)


def test_difference_counts_over_all_batches() -> None:
    found = Difference("y")
    found.add(np.float32([1e-3]), np.float32([1.001e-3]))
    found.add(np.float32([1.0]), np.float32([1.0]))
    assert found.relative() == pytest.approx(1e-6, rel=1e-2)
    assert found.n_compared == 2


@pytest.mark.parametrize(
    ("want", "got"),
    [
        pytest.param(np.float32([1.0]), np.float32([1.0001]), id="too far"),
        pytest.param(np.float32([0.0]), np.float32([1e-4]), id="too far from nothing"),
        pytest.param(np.float32([[1.0]]), np.float32([1.0]), id="another shape"),
        pytest.param(np.float32([1.0]), np.float64([1.0]), id="another datatype"),
        pytest.param(np.int32([1, 2]), np.int32([1, 3]), id="another integer"),
        pytest.param(np.float32([1.0, np.nan]), np.float32([1.0, 1.0]), id="a number for NaN"),
        pytest.param(np.float32([1.0, 1.0]), np.float32([1.0, np.nan]), id="NaN for a number"),
        pytest.param(np.float32([1.0, np.inf]), np.float32([1.0, -np.inf]), id="another infinity"),
        pytest.param(np.float32([np.nan]), np.float32([np.nan]), id="nothing finite"),
    ],
)
def test_difference_is_refused(want: object, got: object) -> None:
    with pytest.raises(NotConvertible, match="output 'y'"):
        difference(want, got)


def test_equal_integers_and_equal_nan_pass() -> None:
    assert difference(np.int32([1, 2]), np.int32([1, 2])) == 0
    assert difference(np.float32([1, np.nan, np.inf]), np.float32([1, np.nan, np.inf])) == 0


def test_sentence_tells_nothing_about_this_machine() -> None:
    told = sentence("\n  Could not read /opt/venv/lib/python3.11/keras/x.py:12:1 \x1b[31mred\n  second line")
    assert told == "Could not read (…) [31mred"
    assert len(sentence("x" * 10_000)) == MAX_CHARACTERS
    assert sentence("") == "no reason was given"


def test_converter_reason_is_its_first_error() -> None:
    message = "/a/b.py:1:1: error: 'tf.X' op is odd\n  more\n/a/c.py:2:1: error: second"
    assert converter_reason(message) == "'tf.X' op is odd"
    assert "BiasAdd, MatMul" in converter_reason(message + "\nTF Select ops: BiasAdd, MatMul\nDetails:")


@pytest.mark.parametrize(
    "fault", [MemoryError(), RuntimeError("std::bad_alloc"), ValueError("Unable to allocate 3 GiB")]
)
def test_the_end_of_memory_is_told_from_a_fault_of_the_model(fault: Exception) -> None:
    raise_if_out_of_memory(ValueError("a fault"))
    with pytest.raises(MemoryError):
        raise_if_out_of_memory(fault)
