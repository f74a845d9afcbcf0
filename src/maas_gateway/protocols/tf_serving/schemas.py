"""The bodies of TensorFlow Serving's RESTful API as JSON Schema, for the OpenAPI document.

Rules: an array of any rank has no schema for its items; examples are of a model with one input `x` of
three numbers and one output `y`. The constants are read only: whoever needs to change one copies it.

Source: TensorFlow Serving RESTful API, "Predict API", "Model status API", "Model Metadata API".
"""

from typing import Final, TypeAlias

from maas_gateway.protocols.tf_serving.metadata import VersionState

Schema: TypeAlias = dict[str, object]

PREDICT_REQUEST: Final[Schema] = {
    "type": "object",
    "description": "Either `instances`, one value or object for each row, or `inputs`, one array for each input.",
    "properties": {
        "signature_name": {"type": "string", "default": "serving_default"},
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {},
            "description": "Rows: values or nested lists of a model with one input; objects by input name of any.",
        },
        "inputs": {"description": "Columns: the array of the only input, or an object of arrays by input name."},
    },
    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    "examples": [
        {"instances": [[0.17, -1.2, 3.0], [0.5, 0.0, 1.25]]},
        {"instances": [{"x": [0.17, -1.2, 3.0]}]},
        {"signature_name": "serving_default", "inputs": {"x": [[0.17, -1.2, 3.0]]}},
    ],
}

PREDICT_RESPONSE: Final[Schema] = {
    "type": "object",
    "description": "`predictions` answers `instances`, `outputs` answers `inputs`.",
    "properties": {
        "predictions": {"type": "array", "items": {}, "description": "One value, or object by output name, a row."},
        "outputs": {"description": "The value of the only output, or an object of values by output name."},
    },
    "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
    "examples": [{"predictions": [[0.25], [0.75]]}, {"outputs": [[0.25]]}],
}

EXAMPLES_REQUEST: Final[Schema] = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "signature_name": {"type": "string", "default": "serving_default"},
        "context": {"type": "object", "description": "Features that all examples share.", "additionalProperties": {}},
        "examples": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "additionalProperties": {}},
            "description": "For each example its features, by input name: a value or a flat list of values.",
        },
    },
    "examples": [{"examples": [{"x": [0.17, -1.2, 3.0]}]}],
}

RESULTS_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["results"],
    "properties": {
        "results": {
            "type": "array",
            "items": {},
            "description": "For each example: classify, its pairs of label and score; regress, its value.",
        }
    },
    "examples": [{"results": [[["", 0.25], ["", 0.75]]]}, {"results": [0.25]}],
}

STATUS_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["name", "ready", "model_version_status"],
    "properties": {
        "name": {"type": "string"},
        "ready": {"type": "boolean", "description": "Whether a version is available."},
        "model_version_status": {
            "type": "array",
            "description": "The newest version first.",
            "items": {
                "type": "object",
                "required": ["version", "state", "status"],
                "properties": {
                    "version": {"type": "string", "pattern": "^[0-9]+$"},
                    "state": {"type": "string", "enum": [state.value for state in VersionState]},
                    "status": {
                        "type": "object",
                        "required": ["error_code", "error_message"],
                        "properties": {"error_code": {"type": "string"}, "error_message": {"type": "string"}},
                    },
                },
            },
        },
    },
    "examples": [
        {
            "name": "breast-cancer",
            "ready": True,
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ],
        }
    ],
}

MODELS_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["models"],
    "properties": {"models": {"type": "array", "items": {"type": "string"}}},
    "examples": [{"models": ["breast-cancer"]}],
}

_TENSOR: Final[Schema] = {
    "type": "object",
    "required": ["dtype", "tensor_shape", "name"],
    "properties": {
        "dtype": {"type": "string", "pattern": "^DT_"},
        "tensor_shape": {
            "type": "object",
            "required": ["dim", "unknown_rank"],
            "properties": {
                "dim": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["size", "name"],
                        "properties": {"size": {"type": "string", "pattern": "^-?[0-9]+$"}, "name": {"type": "string"}},
                    },
                },
                "unknown_rank": {"type": "boolean"},
            },
        },
        "name": {"type": "string"},
    },
}

_SIGNATURE: Final[Schema] = {
    "type": "object",
    "required": ["inputs", "outputs", "method_name", "defaults"],
    "properties": {
        "inputs": {"type": "object", "additionalProperties": _TENSOR},
        "outputs": {"type": "object", "additionalProperties": _TENSOR},
        "method_name": {"type": "string"},
        "defaults": {"type": "object"},
    },
}

METADATA_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["model_spec", "metadata"],
    "properties": {
        "model_spec": {
            "type": "object",
            "required": ["name", "signature_name", "version"],
            "properties": {
                "name": {"type": "string"},
                "signature_name": {"type": "string"},
                "version": {"type": "string", "pattern": "^[0-9]+$"},
            },
        },
        "metadata": {
            "type": "object",
            "required": ["signature_def"],
            "properties": {
                "signature_def": {
                    "type": "object",
                    "required": ["signature_def"],
                    "properties": {"signature_def": {"type": "object", "additionalProperties": _SIGNATURE}},
                }
            },
        },
    },
    "examples": [
        {
            "model_spec": {"name": "breast-cancer", "signature_name": "", "version": "1"},
            "metadata": {
                "signature_def": {
                    "signature_def": {
                        "serving_default": {
                            "inputs": {
                                "x": {
                                    "dtype": "DT_FLOAT",
                                    "tensor_shape": {
                                        "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
                                        "unknown_rank": False,
                                    },
                                    "name": "x:0",
                                }
                            },
                            "outputs": {},
                            "method_name": "tensorflow/serving/predict",
                            "defaults": {},
                        }
                    }
                }
            },
        }
    ],
}

ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error", "request_id"],
    "properties": {"error": {"type": "string"}, "request_id": {"type": "string"}},
    "examples": [
        {
            "error": "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: null Type: Null is not of expected type: float (at instances[0][2])",
            "request_id": "01K0Q2M6H8",
        }
    ],
}
