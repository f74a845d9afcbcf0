"""The bodies of the Open Inference Protocol as JSON Schema, for the OpenAPI document.

Rules: `data` may be nested, so it has no schema for its items; examples are of a model with one input
`x` of three numbers and one output `y`. The constants are read only: whoever needs to change one copies it.

Source: Open Inference Protocol, "Inference", "Model Metadata", "Server Metadata", "Health".
"""

from typing import Final, TypeAlias

from maas_gateway.tensors.datatypes import Datatype

Schema: TypeAlias = dict[str, object]

_PARAMETERS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_DATATYPE: Final[Schema] = {"type": "string", "enum": [datatype.value for datatype in Datatype]}
_TENSOR: Final[Schema] = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": _DATATYPE,
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}, "description": "Row-major, nested or flat; answers are flat."},
    },
}
_TENSOR_METADATA: Final[Schema] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": _DATATYPE,
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}, "description": "-1 is free."},
    },
}

INFER_REQUEST: Final[Schema] = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "Comes back in the answer."},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
        "outputs": {
            "type": "array",
            "description": "The outputs wanted, in this order; absent or empty asks for all.",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
    "examples": [
        {"id": "42", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.17, -1.2, 3.0]}]},
        {
            "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[0.17, -1.2, 3.0]]}],
            "outputs": [{"name": "y"}],
        },
    ],
}

INFER_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["model_name", "model_version", "id", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
    "examples": [
        {
            "model_name": "breast-cancer",
            "model_version": "1",
            "id": "42",
            "outputs": [{"name": "y", "shape": [1, 1], "datatype": "FP32", "data": [0.25]}],
        }
    ],
}

SERVER_METADATA_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["name", "version", "extensions"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "extensions": {"type": "array", "items": {"type": "string"}},
    },
    "examples": [{"name": "maas-gateway", "version": "0.1.0", "extensions": []}],
}

MODEL_METADATA_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["name", "versions", "platform", "inputs", "outputs"],
    "properties": {
        "name": {"type": "string"},
        "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"},
        "inputs": {"type": "array", "items": _TENSOR_METADATA},
        "outputs": {"type": "array", "items": _TENSOR_METADATA},
    },
    "examples": [
        {
            "name": "breast-cancer",
            "versions": ["1"],
            "platform": "keras_litert",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        }
    ],
}

_TALLY: Final[Schema] = {
    "type": "object",
    "required": ["count", "ns"],
    "properties": {"count": {"type": "integer"}, "ns": {"type": "integer"}},
}
_STAGES: Final = (
    "success",
    "fail",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
)
_NO_TALLIES: Final[Schema] = {stage: {"count": 0, "ns": 0} for stage in _STAGES}

STATISTICS_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["model_stats"],
    "properties": {
        "model_stats": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "version", "inference_count", "execution_count", "inference_stats", "batch_stats"],
                "properties": {
                    "name": {"type": "string"},
                    "version": {"type": "string"},
                    "last_inference": {"type": "integer", "description": "Milliseconds since 1970; 0 for never."},
                    "inference_count": {"type": "integer", "description": "Rows answered."},
                    "execution_count": {"type": "integer", "description": "Batches computed."},
                    "inference_stats": {"type": "object", "additionalProperties": _TALLY},
                    "response_stats": {"type": "object"},
                    "batch_stats": {"type": "array", "items": {"type": "object"}},
                    "memory_usage": {"type": "array"},
                },
            },
        }
    },
    "examples": [
        {
            "model_stats": [
                {
                    "name": "breast-cancer",
                    "version": "1",
                    "last_inference": 1_763_886_000_000,
                    "inference_count": 12,
                    "execution_count": 9,
                    "inference_stats": {**_NO_TALLIES, "success": {"count": 10, "ns": 2_100_000}},
                    "response_stats": {},
                    "batch_stats": [
                        {"batch_size": 1, "compute_infer": {"count": 9, "ns": 60_000}},
                    ],
                    "memory_usage": [],
                }
            ]
        }
    ],
}

CONFIGURATION_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["name", "platform", "backend", "max_batch_size", "input", "output"],
    "properties": {
        "name": {"type": "string"},
        "platform": {"type": "string"},
        "backend": {"type": "string"},
        "max_batch_size": {"type": "integer", "description": "Rows at once; 0 where the model has no batch."},
        "input": {"type": "array", "items": {"type": "object"}},
        "output": {"type": "array", "items": {"type": "object"}},
        "dynamic_batching": {"type": "object"},
    },
    "examples": [
        {
            "name": "breast-cancer",
            "platform": "keras_litert",
            "backend": "litert",
            "version_policy": {"all": {}},
            "max_batch_size": 64,
            "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}],
            "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
            "dynamic_batching": {"max_queue_delay_microseconds": 0},
        }
    ],
}

MODELS_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["models"],
    "properties": {"models": {"type": "array", "items": {"type": "string"}}},
    "examples": [{"models": ["breast-cancer"]}],
}

INDEX_REQUEST: Final[Schema] = {
    "type": "object",
    "properties": {"ready": {"type": "boolean", "description": "Whether to list only what is READY."}},
    "examples": [{"ready": True}],
}

INDEX_RESPONSE: Final[Schema] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "version", "state", "reason"],
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"type": "string", "enum": ["READY", "LOADING", "UNAVAILABLE"]},
            "reason": {"type": "string", "description": "Why it is not READY, else empty."},
        },
    },
    "examples": [
        [
            {"name": "breast-cancer", "version": "2", "state": "READY", "reason": ""},
            {"name": "breast-cancer", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        ]
    ],
}

LOAD_REQUEST: Final[Schema] = {
    "type": "object",
    "properties": {
        "parameters": {
            "type": "object",
            "properties": {
                "version": {"type": ["string", "integer"], "description": "Which version, if not the newest."}
            },
        }
    },
    "examples": [{"parameters": {"version": "1"}}],
}

UNLOAD_REQUEST: Final[Schema] = {
    "type": "object",
    "properties": {
        "parameters": {
            "type": "object",
            "properties": {
                "unload_dependents": {"type": "boolean", "description": "Has no effect: no model has dependents."}
            },
        }
    },
    "examples": [{"parameters": {"unload_dependents": False}}],
}


def changed_response(verb: str) -> Schema:
    """Return the schema of what says that a model was loaded or unloaded."""
    return {
        "type": "object",
        "required": ["name", verb],
        "properties": {"name": {"type": "string"}, verb: {"type": "boolean"}},
        "examples": [{"name": "breast-cancer", verb: True}],
    }


LIVE_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["live"],
    "properties": {"live": {"type": "boolean"}},
    "examples": [{"live": True}],
}

READY_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["ready"],
    "properties": {"ready": {"type": "boolean"}, "live": {"type": "boolean"}},
    "examples": [{"ready": True, "live": True}],
}

MODEL_READY_RESPONSE: Final[Schema] = {
    "type": "object",
    "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}},
    "examples": [{"name": "breast-cancer", "ready": True}],
}

ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error", "request_id"],
    "properties": {"error": {"type": "string"}, "request_id": {"type": "string"}},
    "examples": [
        {"error": "input 'x': shape [1, 3] has 3 elements and 'data' has 2", "request_id": "01K0Q2M6H8"},
    ],
}
