"""Classify and regress: what is read, what is refused, what is written."""

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_gateway.errors import GatewayError, MalformedBody, SignatureMismatch
from maas_gateway.protocols.tf_serving import schemas
from maas_gateway.protocols.tf_serving.examples import CLASSIFY, REGRESS, read_examples, write_results
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

INPUTS = (
    TensorSpec("x", Datatype.FP32, (-1, 2)),
    TensorSpec("age", Datatype.INT64, (-1,)),
    TensorSpec("name", Datatype.BYTES, (-1, 1)),
)
LABEL = TensorSpec("label", Datatype.INT64, (-1,))
SCORES = ModelSignature(INPUTS, (LABEL, TensorSpec("p", Datatype.FP32, (-1, 3))))
VALUE = ModelSignature(INPUTS, (TensorSpec("v", Datatype.FP64, (-1, 1)),))
EXAMPLE = {"x": [1, 2.5], "age": 7, "name": {"b64": "YWI="}}


def a_body(*examples: object, **fields: object) -> bytes:
    return json.dumps({"examples": list(examples) or [EXAMPLE], **fields}).encode()


def without(name: str) -> dict[str, object]:
    return {key: value for key, value in EXAMPLE.items() if key != name}


def test_features_become_inputs_and_the_only_scores_are_asked_for() -> None:
    request = read_examples(a_body(EXAMPLE, {"x": [3, 4], "age": [8], "name": ["c"]}), SCORES, CLASSIFY)
    assert [tensor.array.tolist() for tensor in request.inputs] == [[[1, 2.5], [3, 4]], [7, 8], [[b"ab"], [b"c"]]]
    assert (request.n_rows, request.outputs) == (2, ("p",))
    assert read_examples(a_body(signature_name="serving_default"), VALUE, REGRESS).outputs == ("v",)


def test_context_is_part_of_every_example() -> None:
    request = read_examples(a_body(without("age"), without("age"), context={"age": 9}), SCORES, CLASSIFY)
    assert request.inputs[1].array.tolist() == [9, 9]


REFUSED = {
    "no examples": (b"{}", "When method is classify, key 'examples' is expected and was not found"),
    "examples that are no list": (b'{"examples": {}}', "'examples' value must be a list/array"),
    "an empty list": (b'{"examples": []}', "'examples' value is an empty array"),
    "an example that is no object": (a_body(EXAMPLE, [1]), "examples[1] must be an object and is of type Array"),
    "a context that is no object": (a_body(context=[]), "'context' value must be an object"),
    "a feature in both": (a_body(context={"age": 1}), "feature 'age' is in 'context' and in examples[0]"),
    "a signature of another name": (a_body(signature_name="other"), 'Serving signature name: "other" not found'),
    "a missing feature": (a_body(EXAMPLE, without("x")), "examples[1]: feature 'x' is missing"),
    "an unknown feature": (a_body({**EXAMPLE, "q": 1}), "examples[0]: unknown feature 'q'"),
    "another number of values": (a_body(EXAMPLE, {**EXAMPLE, "x": [1]}), "feature: x"),
    "text for a number": (a_body({**EXAMPLE, "x": [1, "2"]}), "(at examples[0]['x'][1])"),
    "a fraction for an integer": (a_body({**EXAMPLE, "age": 1.5}), "feature: age"),
    "a nested list": (a_body({**EXAMPLE, "x": [[1, 2]]}), "input 'x': expected shape [-1, 2]"),
    "null": (a_body({**EXAMPLE, "age": None}), "feature: age"),
}


@pytest.mark.parametrize(("body", "said"), REFUSED.values(), ids=REFUSED)
def test_body_is_refused_when_it_has(body: bytes, said: str) -> None:
    with pytest.raises((MalformedBody, SignatureMismatch)) as caught:
        read_examples(body, SCORES, CLASSIFY)
    assert said in caught.value.detail


WITHOUT_SCORES = {
    "classify needs a row of scores": (VALUE.inputs, (TensorSpec("v", Datatype.FP32, (-1,)),), CLASSIFY),
    "regress needs one value": (SCORES.inputs, SCORES.outputs, REGRESS),
    "which of two outputs it is nobody knows": (INPUTS, (*VALUE.outputs, SCORES.outputs[1]), CLASSIFY),
    "no output is of floating-point numbers": (INPUTS, (LABEL,), REGRESS),
    "there are no rows": ((TensorSpec("x", Datatype.FP32, (2,)),), (TensorSpec("v", Datatype.FP32, (2, 3)),), CLASSIFY),
}


@pytest.mark.parametrize(("inputs", "outputs", "verb"), WITHOUT_SCORES.values(), ids=WITHOUT_SCORES)
def test_model_is_refused_because(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], verb: str) -> None:
    with pytest.raises(SignatureMismatch, match=rf"signature method_name to be tensorflow/serving/{verb}\."):
        read_examples(a_body(), ModelSignature(inputs, outputs), verb)


def test_image_is_no_feature() -> None:
    signature = ModelSignature((TensorSpec("i", Datatype.UINT8, (-1, 2, 2)),), VALUE.outputs)
    with pytest.raises(SignatureMismatch, match="input 'i' is no feature"):
        read_examples(a_body({"i": [1]}), signature, REGRESS)


def test_results_are_pairs_of_label_and_score_or_values() -> None:
    scores = Tensor.of("p", np.array([[0.2, np.nan], [1, 0]], np.float32))
    body = write_results(InferenceResponse("m", 1, (scores,)), CLASSIFY)
    assert body == b'{"results":[[["",0.2],["",NaN]],[["",1.0],["",0.0]]]}'
    values = Tensor.of("v", np.array([[0.25], [2]], np.float64))
    body = write_results(InferenceResponse("m", 1, (values,)), REGRESS)
    assert body == b'{"results":[0.25,2.0]}'
    jsonschema.validate(json.loads(body), schemas.RESULTS_RESPONSE, cls=jsonschema.Draft202012Validator)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "age", "name", "b64"]), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["examples", "context", "signature_name"]), JSON) | JSON)
def test_no_body_raises_anything_but_errors_of_ours(document: object) -> None:
    for verb in (CLASSIFY, REGRESS):
        try:
            request = read_examples(json.dumps(document).encode(), SCORES if verb == CLASSIFY else VALUE, verb)
        except GatewayError as error:
            error.detail.encode()
        else:
            assert request.n_rows >= 1
