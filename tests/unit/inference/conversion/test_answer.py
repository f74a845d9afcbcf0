"""The child's word for a conversion: read as it should be, refused in every other form."""

import math
from typing import Any

import pytest

from maas_gateway.inference.conversion.answer import AnswerRejected, read_answer


def header(**changed: Any) -> dict[str, Any]:
    return {
        "signature": {
            "inputs": [
                {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "b", "datatype": "INT32", "shape": [-1]},
            ],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        },
        "input_order": [1, 0],
        "output_order": [0],
        "max_relative_error": 1e-7,
        "n_compared": 11,
        **changed,
    }


def signature(**changed: Any) -> dict[str, Any]:
    port = {"name": "y", "datatype": "FP32", "shape": [-1], **changed}
    return {"signature": {**header()["signature"], "outputs": [port]}}


def test_answer_is_read() -> None:
    conversion = read_answer(header(), b"plan", took_ms=5.0)
    assert conversion.input_order == (1, 0)
    assert conversion.output_order == (0,)
    assert conversion.signature == header()["signature"]
    assert (conversion.plan, conversion.n_compared, conversion.took_ms) == (b"plan", 11, 5.0)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"signature": None}, id="no signature"),
        pytest.param({"signature": {"inputs": []}}, id="half a signature"),
        pytest.param({"signature": {**header()["signature"], "more": 1}}, id="more than a signature"),
        pytest.param({"signature": {**header()["signature"], "inputs": []}}, id="no inputs"),
        pytest.param({"signature": {**header()["signature"], "outputs": "y"}}, id="outputs that are no list"),
        pytest.param(signature(more=1), id="a port with another field"),
        pytest.param(signature(name=""), id="no name"),
        pytest.param(signature(name="a\x1b[31m"), id="a name with control characters"),
        pytest.param(signature(name="y" * 257), id="a long name"),
        pytest.param(signature(name=1), id="a name that is no string"),
        pytest.param(signature(datatype="FP31"), id="an unknown datatype"),
        pytest.param(signature(datatype=[]), id="a datatype that is no string"),
        pytest.param(signature(shape=[-2]), id="a negative dimension"),
        pytest.param(signature(shape=[1.0]), id="a broken dimension"),
        pytest.param(signature(shape=[True]), id="a bool for a dimension"),
        pytest.param(signature(shape=[1] * 33), id="too many dimensions"),
        pytest.param(signature(shape=[1 << 40]), id="a huge dimension"),
        pytest.param({"input_order": [0, 0]}, id="an order that names one place twice"),
        pytest.param({"input_order": [0]}, id="a short order"),
        pytest.param({"input_order": [0, 2]}, id="an order out of range"),
        pytest.param({"input_order": ["0", "1"]}, id="an order of strings"),
        pytest.param({"output_order": None}, id="no order"),
        pytest.param({"output_order": [False]}, id="an order of bools"),
        pytest.param({"max_relative_error": 1.1e-5}, id="an error beyond the tolerance"),
        pytest.param({"max_relative_error": -1}, id="a negative error"),
        pytest.param({"max_relative_error": math.nan}, id="an error that is no number"),
        pytest.param({"max_relative_error": True}, id="an error that is a bool"),
        pytest.param({"n_compared": 0}, id="nothing compared"),
        pytest.param({"n_compared": 1.5}, id="a broken count"),
    ],
)
def test_answer_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(AnswerRejected):
        read_answer(header(**changed), b"plan", took_ms=1.0)


def test_answer_without_a_plan_or_with_a_name_twice_is_refused() -> None:
    with pytest.raises(AnswerRejected):
        read_answer(header(), b"", took_ms=1.0)
    twice = header()
    twice["signature"]["inputs"][1]["name"] = "a"
    with pytest.raises(AnswerRejected):
        read_answer(twice, b"plan", took_ms=1.0)
