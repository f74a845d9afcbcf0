"""How far a plan may differ from its model, and what the converter's objection becomes."""

import numpy as np
import pytest

from maas_gateway.inference.conversion.comparison import Difference, Reference, compare
from maas_gateway.inference.conversion.lowering import Port
from maas_gateway.inference.conversion.refusal import (
    MAX_CHARACTERS,
    NotConvertible,
    converter_reason,
    keras_reason,
    raise_if_out_of_memory,
    sentence,
)
from maas_gateway.inference.conversion.samples import Array


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


def test_values_in_another_order_are_told_apart_from_values_as_close_as_the_tolerance() -> None:
    assert difference(np.float32([[0.5, 0.500001, 1.0]]), np.float32([[0.500001, 0.5, 1.0]])) <= 1e-5
    found = Difference("y", tolerance=1.5)
    found.add(np.float32([[0.1, 0.9, -0.5]]), np.float32([[0.1, 0.9, -0.5]]))
    found.relative()
    found = Difference("y", tolerance=0.5)
    found.add(np.float32([[0.0, 0.8, 1.0]]), np.float32([[0.45, 0.35, 1.0]]))
    with pytest.raises(NotConvertible, match="output 'y' ranks its values in another order"):
        found.relative()


def test_engine_that_raises_or_answers_otherwise_is_refused() -> None:
    references = [Reference([np.float32([[1.0]])], [np.float32([[2.0]])], (False,))]
    outputs = [Port("y", "FP32", "float32", (-1, 1))]
    assert compare(lambda arrays: [2 * arrays[0]], references, outputs, tolerance=1e-6) == (0.0, 1)
    with pytest.raises(NotConvertible, match=r"output 'y' differs from the uploaded model's by 5\.0e-01"):
        compare(lambda arrays: [3 * arrays[0]], references, outputs, tolerance=1e-6)

    def raises(_: object) -> list[Array]:
        raise RuntimeError("no such kernel")

    with pytest.raises(NotConvertible, match="does not run: no such kernel"):
        compare(raises, references, outputs, tolerance=1e-6)


def test_output_that_was_large_enough_on_usual_inputs_is_not_held_against_larger_ones() -> None:
    usual = Reference([np.float32([[1.0]])], [np.float32([[1.0]])], (False,))
    larger = Reference([np.float32([[8.0]])], [np.float32([[8.0]])], (True,))
    outputs = [Port("y", "FP32", "float32", (-1, 1))]
    assert compare(lambda arrays: [np.minimum(arrays[0], 1)], [usual, larger], outputs, tolerance=1e-6) == (0.0, 1)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(
            "Exception encountered when calling Dense.call().\n\n\x1b[1mShapes differ\x1b[0m\n\nArguments received",
            "Shapes differ",
            id="a layer's own words",
        ),
        pytest.param(
            "<class 'keras.X'> could not be deserialized properly.\n\nconfig={}.\n\nException encountered: no 'units'",
            "no 'units'",
            id="what was wrong with a configuration",
        ),
        pytest.param("Unknown layer: X", "Unknown layer: X", id="everything else"),
    ],
)
def test_keras_reason_is_what_it_wraps(message: str, reason: str) -> None:
    assert keras_reason(message) == reason
