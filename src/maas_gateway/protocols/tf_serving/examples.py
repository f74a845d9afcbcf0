"""Classify and regress: feature dictionaries to tensors, and an output's scores back.

Rules: every input of the model is a feature of that name, a value or a flat list of values; `context` holds features
that all examples share and is overridden by none; other features are refused. The scores are those of the model's
only output of floating-point numbers: classify wants one row of scores an example, regress one value. Labels are empty,
as they are for a TensorFlow model without a tensor of classes.

Source: TensorFlow Serving RESTful API, "Classify and Regress API"; the answer's key is `results`, as its code writes
it, where the page says `result`. Deviation: an integer is taken for a floating-point feature, as in predict.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from maas_gateway.errors import MalformedBody, SignatureMismatch
from maas_gateway.protocols.tf_serving.answers import numbers_as_json
from maas_gateway.protocols.tf_serving.document import parse_document
from maas_gateway.protocols.tf_serving.metadata import check_signature_name
from maas_gateway.protocols.tf_serving.requests import DIALECT
from maas_gateway.tensors.arrays import Fault, array_from_json
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor
from maas_gateway.tensors.values import json_type, quoted

CLASSIFY: Final = "classify"
REGRESS: Final = "regress"

_METHODS: Final = MappingProxyType({CLASSIFY: "Classification", REGRESS: "Regression"})
_ROW_RANK: Final = 2
_NOT_IN_EXAMPLES: Final = frozenset({Datatype.FP16, Datatype.UINT16})


def read_examples(body: bytes, signature: ModelSignature, verb: str) -> InferenceRequest:
    """Read a classify or regress request.

    Args:
        body: the whole body, decompressed.
        signature: of the version that will answer.
        verb: `CLASSIFY` or `REGRESS`.

    Returns:
        The inputs, checked against the signature, and the output that the scores come from.

    Raises:
        MalformedBody: the body is no such request.
        SignatureMismatch: it does not fit the signature, or the model has no such scores.
    """
    document = parse_document(body)
    if "signature_name" in document:
        check_signature_name(document["signature_name"])
    output = _scores_of(signature, verb)
    examples = _examples_in(document, verb)
    _check_known(examples, signature)
    tensors = tuple(_feature(spec, examples) for spec in _features_of(signature))
    return InferenceRequest(tensors, signature.check(tensors), (output.name,))


def write_results(response: InferenceResponse, verb: str) -> bytes:
    """Return the body that answers a classify or regress request.

    Raises:
        SignatureMismatch: the output has another shape than the signature says.
    """
    scores = response.outputs[0].array
    if verb == REGRESS:
        return b'{"results":%b}' % numbers_as_json(scores.reshape(-1))
    if scores.ndim != _ROW_RANK:
        raise SignatureMismatch(f"output '{response.outputs[0].name}' has no row of scores for each example")
    rows = [b",".join(b'["",%b]' % numbers_as_json(score) for score in row) for row in scores]
    return b'{"results":[%b]}' % b",".join(b"[%b]" % row for row in rows)


def _scores_of(signature: ModelSignature, verb: str) -> TensorSpec:
    found = [spec for spec in signature.outputs if spec.datatype.is_float]
    fits = len(found) == 1 and signature.has_batch
    if fits and verb == CLASSIFY:
        fits = len(found[0].shape) == _ROW_RANK
    elif fits:
        fits = found[0].shape[1:] in {(), (1,)}
    if not fits:
        shape = "(rows, classes)" if verb == CLASSIFY else "(rows,) or (rows, 1)"
        raise SignatureMismatch(
            f"Expected {_METHODS[verb].lower()} signature method_name to be tensorflow/serving/{verb}. Was: "
            f"tensorflow/serving/predict; {verb} needs a model with one output of floating-point numbers {shape}"
        )
    return found[0]


def _features_of(signature: ModelSignature) -> tuple[TensorSpec, ...]:
    for spec in signature.inputs:
        if len(spec.shape) > _ROW_RANK or spec.datatype in _NOT_IN_EXAMPLES:
            raise SignatureMismatch(f"input '{spec.name}' is no feature: neither a value nor a flat list of values")
    return signature.inputs


def _examples_in(document: Mapping[str, object], verb: str) -> list[dict[str, object]]:
    """Return the features of each example, the context's included."""
    examples = document.get("examples")
    if examples is None:
        raise MalformedBody(f"When method is {verb}, key 'examples' is expected and was not found")
    if not isinstance(examples, list):
        raise MalformedBody("'examples' value must be a list/array")
    if not examples:
        raise MalformedBody("'examples' value is an empty array")
    context = document.get("context", {})
    if not isinstance(context, dict):
        raise MalformedBody("'context' value must be an object")
    merged = []
    for position, example in enumerate(examples):
        if not isinstance(example, dict):
            raise MalformedBody(f"examples[{position}] must be an object and is of type {json_type(example)}")
        twice = next((name for name in example if name in context), None)
        if twice is not None:
            raise MalformedBody(f"feature {quoted(twice)} is in 'context' and in examples[{position}]")
        merged.append({**context, **example})
    return merged


def _check_known(examples: Sequence[Mapping[str, object]], signature: ModelSignature) -> None:
    names = {spec.name for spec in signature.inputs}
    for position, example in enumerate(examples):
        unknown = next((name for name in example if name not in names), None)
        if unknown is not None:
            known = ", ".join(sorted(names))
            raise SignatureMismatch(
                f"examples[{position}]: unknown feature {quoted(unknown)}; the model's are: {known}"
            )


def _feature(spec: TensorSpec, examples: Sequence[Mapping[str, object]]) -> Tensor:
    """Return an input from the feature of its name in each example."""
    values = []
    for position, example in enumerate(examples):
        if spec.name not in example:
            raise SignatureMismatch(f"examples[{position}]: feature '{spec.name}' is missing")
        value = example[spec.name]
        is_row = len(spec.shape) == _ROW_RANK
        if is_row and not isinstance(value, list):
            value = [value]
        elif not is_row and isinstance(value, list) and len(value) == 1:
            value = value[0]
        values.append(value)

    def describe(fault: Fault) -> str:
        position, *inner = fault.indices or (0,)
        place = f"examples[{position}][{quoted(spec.name)}]" + "".join(f"[{index}]" for index in inner)
        return f"Unexpected element type in feature: {spec.name}: {fault.reason} (at {place})"

    return Tensor(spec.name, spec.datatype, array_from_json(values, spec.datatype, DIALECT, describe))
