"""The child's word for a conversion: read as it should be, refused in every other form."""

import math
from typing import Any

import pytest

from maas_gateway.inference.conversion.answer import AnswerRejected, Conversion, read_answer


def header(**changed: Any) -> dict[str, Any]:
    return {
        "signature": {
            "inputs": [
                {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
                {"name": "b", "datatype": "INT32", "shape": [-1]},
            ],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        },
        "plans": [plan("keras", 7), plan("litert", 4)],
        "n_compared": 11,
        "notes": ["nothing"],
        **changed,
    }


def plan(runtime: str = "litert", n_bytes: int = 4, **changed: Any) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "n_bytes": n_bytes,
        "input_order": [1, 0],
        "output_order": [0],
        "max_relative_error": 1e-7,
        "tolerance": 1e-6,
        "took_us": 120,
        **changed,
    }


def plans(**changed: Any) -> dict[str, Any]:
    return {"plans": [plan("keras", 7), plan(**changed)]}


def read(header: dict[str, Any], *, form: str = "keras", n_bytes: int = 11) -> Conversion:
    return read_answer(form, header, n_bytes=n_bytes, took_ms=5.0)


def signature(**changed: Any) -> dict[str, Any]:
    port = {"name": "y", "datatype": "FP32", "shape": [-1], **changed}
    return {"signature": {**header()["signature"], "outputs": [port]}}


def test_answer_is_read() -> None:
    conversion = read(header())
    keras, litert = conversion.plans
    assert conversion.signature == header()["signature"]
    assert (conversion.notes, conversion.n_compared, conversion.took_ms) == (("nothing",), 11, 5.0)
    assert (keras.runtime, keras.offset, keras.n_bytes) == ("keras", 0, 7)
    assert (litert.runtime, litert.offset, litert.n_bytes) == ("litert", 7, 4)
    assert (litert.input_order, litert.output_order) == ((1, 0), (0,))
    assert (litert.max_relative_error, litert.tolerance, litert.took_us) == (1e-7, 1e-6, 120)


def test_upload_that_is_its_own_plan_brings_no_content() -> None:
    said = {"tolerance": 1e-5, "max_relative_error": 9e-6}
    assert read(header(plans=[plan("onnx", 0, **said)]), form="onnx", n_bytes=0).plans[0].n_bytes == 0
    with pytest.raises(AnswerRejected, match="in the place of what was uploaded"):
        read(header(plans=[plan("onnx", 11, **said)]), form="onnx")


def test_notes_are_cleaned() -> None:
    assert read(header(notes=["a\x1b[31m\nb", "/etc/passwd/x is there"])).notes == ("a [31m", "(…) is there")


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
        pytest.param({"plans": None}, id="no plans"),
        pytest.param({"plans": []}, id="an empty list of plans"),
        pytest.param({"plans": [plan("keras", 7), plan("litert", 2), plan("litert", 2)]}, id="too many plans"),
        pytest.param({"plans": [plan("keras", 7), plan("keras", 4)]}, id="two plans for one runtime"),
        pytest.param({"plans": [plan("litert", 11, tolerance=1e-5), "keras"]}, id="a plan that is no object"),
        pytest.param(plans(runtime="onnx"), id="a plan that the format does not have"),
        pytest.param(plans(runtime=["litert"]), id="a runtime that is no string"),
        pytest.param(plans(more=1), id="a plan with another field"),
        pytest.param(plans(n_bytes=5), id="sizes that are more than what came"),
        pytest.param(plans(n_bytes=3), id="sizes that are less than what came"),
        pytest.param({"plans": [plan("keras", 11), plan(n_bytes=0)]}, id="a plan without content"),
        pytest.param({"plans": [plan("keras", 15), plan(n_bytes=-4)]}, id="a negative size"),
        pytest.param({"plans": [plan("keras", 10), plan(n_bytes=True)]}, id="a size that is a bool"),
        pytest.param(plans(tolerance=1.1e-5), id="a tolerance beyond ours"),
        pytest.param({"plans": [plan("keras", 11, tolerance=1.1e-6)]}, id="a rebuilt model's tolerance beyond ours"),
        pytest.param(plans(tolerance=None), id="no tolerance"),
        pytest.param(plans(took_us=-1), id="a negative time"),
        pytest.param(plans(took_us=1.5), id="a broken time"),
        pytest.param(plans(took_us=1 << 40), id="a time of days"),
        pytest.param({"notes": "none"}, id="notes that are no list"),
        pytest.param({"notes": ["n"] * 11}, id="too many notes"),
        pytest.param({"notes": [1]}, id="a note that is no string"),
        pytest.param(plans(input_order=[0, 0]), id="an order that names one place twice"),
        pytest.param(plans(input_order=[0]), id="a short order"),
        pytest.param(plans(input_order=[0, 2]), id="an order out of range"),
        pytest.param(plans(input_order=["0", "1"]), id="an order of strings"),
        pytest.param(plans(output_order=None), id="no order"),
        pytest.param(plans(output_order=[False]), id="an order of bools"),
        pytest.param(plans(max_relative_error=1.1e-6), id="an error beyond the tolerance"),
        pytest.param(plans(max_relative_error=-1), id="a negative error"),
        pytest.param(plans(max_relative_error=math.nan), id="an error that is no number"),
        pytest.param(plans(max_relative_error=True), id="an error that is a bool"),
        pytest.param({"n_compared": 0}, id="nothing compared"),
        pytest.param({"n_compared": 1.5}, id="a broken count"),
    ],
)
def test_answer_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(AnswerRejected):
        read(header(**changed))


def test_answer_with_a_name_twice_is_refused() -> None:
    twice = header()
    twice["signature"]["inputs"][1]["name"] = "a"
    with pytest.raises(AnswerRejected):
        read(twice)
