"""TensorFlow Serving's own messages around its REST interface; prints one line of JSON.

Its documentation calls the answers of status and metadata the JSON form of messages: they are read into these. A row of
a `PredictRequest` is sent, and the answer is read into a `PredictResponse`.

python tf_serving_messages.py URL   with the token in the variable TOKEN, rows as JSON on standard input
"""

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import tensorflow as tf  # noqa: TID253  the messages are made with it
from google.protobuf import json_format
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


def _asked(url: str, body: Any = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {os.environ['TOKEN']}"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def told(url: str, rows: np.ndarray) -> dict[str, Any]:
    """Return what the messages hold."""
    model = f"{url}/v1/models/bc"
    status = json_format.ParseDict(_asked(model)[1], GetModelStatusResponse(), ignore_unknown_fields=True)
    metadata = _asked(f"{model}/metadata")[1]
    spec = json_format.ParseDict(metadata["model_spec"], ModelSpec())
    signatures = json_format.ParseDict(metadata["metadata"]["signature_def"], SignatureDefMap())
    default = signatures.signature_def["serving_default"]
    request = PredictRequest(model_spec=spec)
    ((name, takes),) = default.inputs.items()
    request.inputs[name].CopyFrom(tf.make_tensor_proto(rows, dtype=takes.dtype))
    body = {
        "signature_name": "serving_default",
        "inputs": {key: tf.make_ndarray(each).tolist() for key, each in request.inputs.items()},
    }
    outputs = _asked(f"{model}/versions/{spec.version.value}:predict", body)[1]["outputs"]
    response = PredictResponse(model_spec=spec)
    ((answered, gives),) = default.outputs.items()
    response.outputs[answered].CopyFrom(tf.make_tensor_proto(outputs, dtype=gives.dtype))
    scores = tf.make_ndarray(response.outputs[answered])
    return {
        "status": [
            [each.version, ModelVersionStatus.State.Name(each.state), each.status.error_code]
            for each in status.model_version_status
        ],
        "spec": [spec.name, spec.version.value],
        "takes": [name, tf.as_dtype(takes.dtype).name, [dim.size for dim in takes.tensor_shape.dim]],
        "method": default.method_name,
        "scores": [str(scores.dtype), scores.tolist()],
        "unknown": _asked(f"{url}/v1/models/nope:predict", body),
    }


if __name__ == "__main__":
    sent = np.array(json.load(sys.stdin), np.float32)
    print(json.dumps(told(sys.argv[1], sent)))  # noqa: T201  what the test reads
