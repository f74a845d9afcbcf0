"""TensorFlow Lite files that must not pass: each named, harmless in what it would do, with the rule and place of its finding."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unit.scanning.tflite_files import Fields, model, tensor, write

_BOOL = 6
_INT32 = 2
_MAIN = "subgraphs[0]"
_CALL = f"{_MAIN}.operators[0]"


@dataclass(frozen=True)
class Hostile:
    """A file to refuse.

    Attributes:
        name: what is wrong with it.
        build: makes its bytes.
        rule: of the finding.
        where: that the finding names.
    """

    name: str
    build: Callable[[], bytes]
    rule: str
    where: str


def looping() -> Fields:
    """`while x < 10: x = x + 10`, on one number: valid, a case changes what it is about."""
    one = {"shape": [1]}
    return {
        "version": 3,
        "operator_codes": [
            {"deprecated_builtin_code": 119, "builtin_code": 119},
            {"deprecated_builtin_code": 0, "builtin_code": 0},
            {"deprecated_builtin_code": 58, "builtin_code": 58},
        ],
        "subgraphs": [
            {
                "tensors": [tensor(**one, buffer=1), tensor(**one, buffer=1)],
                "inputs": [0],
                "outputs": [1],
                "operators": [
                    {
                        "opcode_index": 0,
                        "inputs": [0],
                        "outputs": [1],
                        "builtin_options_type": 93,
                        "builtin_options": {"cond_subgraph_index": 1, "body_subgraph_index": 2},
                    }
                ],
                "name": b"main",
            },
            {
                "tensors": [tensor(**one, buffer=1), tensor(**one, buffer=2), tensor(**one, buffer=1, type=_BOOL)],
                "inputs": [0],
                "outputs": [2],
                "operators": [{"opcode_index": 2, "inputs": [0, 1], "outputs": [2]}],
                "name": b"cond",
            },
            {
                "tensors": [tensor(**one, buffer=1), tensor(**one, buffer=1), tensor(**one, buffer=2)],
                "inputs": [0],
                "outputs": [1],
                "operators": [{"opcode_index": 1, "inputs": [0, 2], "outputs": [1]}],
                "name": b"body",
            },
        ],
        "buffers": [{}, {}, {"data": struct.pack("<f", 10.0)}],
    }


def choosing() -> Fields:
    """`y = x + x if c else y = x * x`: valid."""
    branch: Fields = {
        "tensors": [tensor(), tensor()],
        "inputs": [0],
        "outputs": [1],
        "operators": [{"opcode_index": 1, "inputs": [0, 0], "outputs": [1]}],
    }
    call = {
        "opcode_index": 0,
        "inputs": [0, 1],
        "outputs": [2],
        "builtin_options_type": 92,
        "builtin_options": {"then_subgraph_index": 1, "else_subgraph_index": 2},
    }
    main = {
        "tensors": [tensor(shape=[1], type=_BOOL), tensor(), tensor()],
        "inputs": [0, 1],
        "outputs": [2],
        "operators": [call],
    }
    other = {**branch, "operators": [{"opcode_index": 2, "inputs": [0, 0], "outputs": [1]}]}
    codes = [{"builtin_code": 118, "deprecated_builtin_code": 118}, {"builtin_code": 0}, {"builtin_code": 18}]
    return {"version": 3, "operator_codes": codes, "subgraphs": [main, branch, other], "buffers": [{}, {}]}


def _changed(change: Callable[[Fields], Any], start: Callable[[], Fields] = looping) -> Callable[[], bytes]:
    def build() -> bytes:
        made = start()
        change(made)
        return write(made)

    return build


def _set(*path: str | int, to: Any) -> Callable[[Fields], None]:
    def change(changed: Any) -> None:
        for step in path[:-1]:
            changed = changed[step]
        changed[path[-1]] = to

    return change


def _calls(graph: int, cond: int, body: int) -> Callable[[Fields], None]:
    """Let a subgraph begin with a loop over others."""

    def change(made: Fields) -> None:
        call = made["subgraphs"][0]["operators"][0]
        options = {"cond_subgraph_index": cond, "body_subgraph_index": body}
        made["subgraphs"][graph]["operators"] = [{**call, "builtin_options": options}]

    return change


def _doubling(depth: int) -> bytes:
    """Subgraphs of which each calls the next one twice."""
    made = choosing()
    main, branch, _ = made["subgraphs"]
    made["subgraphs"] = [main]
    call = main["operators"][0]
    for index in range(1, depth):
        options = {"then_subgraph_index": index + 1, "else_subgraph_index": index + 1}
        inner = {
            "tensors": [tensor(), tensor(shape=[1], type=_BOOL, buffer=2), tensor()],
            "inputs": [0],
            "outputs": [2],
            "operators": [{**call, "inputs": [1, 0], "builtin_options": options}],
        }
        made["subgraphs"].append(inner)
    made["subgraphs"].append(branch)
    made["buffers"].append({"data": b"\1"})
    main["operators"][0] = {**call, "builtin_options": {"then_subgraph_index": 1, "else_subgraph_index": 1}}
    return write(made)


HOSTILE = (
    Hostile("a custom operator", _changed(_set("operator_codes", 0, to={"builtin_code": 32, "custom_code": b"MyOp"}), model), "custom-operator", "operator_codes[0]"),
    Hostile("an operator of full TensorFlow", _changed(_set("operator_codes", 0, to={"builtin_code": 32, "custom_code": b"FlexReadFile"}), model), "custom-operator", "operator_codes[0]"),
    Hostile("CALL_ONCE", _changed(_set("operator_codes", 0, to={"builtin_code": 129, "deprecated_builtin_code": 127}), model), "operator-not-allowed", "operator_codes[0]"),
    Hostile("a variable", _changed(_set("operator_codes", 0, to={"builtin_code": 144, "deprecated_builtin_code": 127}), model), "operator-not-allowed", "operator_codes[0]"),
    Hostile("constants that lie in another file", _changed(_set("external_buffers", to=b""), model), "field-refused", "external_buffers"),
    Hostile("weights behind the end of the file's tables", _changed(_set("buffers", 1, to={"offset": 9, "size": 9}), model), "external-buffer", "buffers[1]"),
    Hostile("a loop whose body is itself", _changed(_calls(2, 1, 2)), "recursion", _MAIN),
    Hostile("two loops in a circle", _changed(lambda m: (m["subgraphs"].append(dict(m["subgraphs"][2])), _calls(2, 1, 3)(m), _calls(3, 1, 2)(m))), "recursion", _MAIN),
    Hostile("a loop whose body is the model", _changed(_calls(0, 1, 0)), "subgraph-index", _CALL),
    Hostile("a loop over a subgraph that is not there", _changed(_calls(0, 1, 9)), "subgraph-index", _CALL),
    Hostile("a loop over subgraph -1", _changed(_calls(0, 1, -1)), "subgraph-index", _CALL),
    Hostile("a loop with the options of IF", _changed(lambda m: m["subgraphs"][0]["operators"][0].update(builtin_options_type=92, builtin_options={"then_subgraph_index": 1, "else_subgraph_index": 2})), "subgraph-index", _CALL),
    Hostile("a loop without options", _changed(lambda m: [m["subgraphs"][0]["operators"][0].pop(key) for key in ("builtin_options", "builtin_options_type")]), "subgraph-index", _CALL),
    Hostile("subgraphs that call 2^30 times", lambda: _doubling(30), "recursion", _MAIN),
    Hostile("a condition that is a number", _changed(_set("subgraphs", 1, "tensors", 2, "type", to=0)), "call", _CALL),
    Hostile("a body that takes another type", _changed(_set("subgraphs", 2, "tensors", 0, "type", to=_INT32)), "call", _CALL),
    Hostile("a body that gives nothing", _changed(_set("subgraphs", 2, "outputs", to=[])), "index", "subgraphs[2]"),
    Hostile("a body that takes more than it is given", _changed(lambda m: (m["subgraphs"][2]["tensors"].append(tensor()), m["subgraphs"][2]["inputs"].append(3))), "call", _CALL),
    Hostile("a branch that takes more than it is given", _changed(lambda m: (m["subgraphs"][1]["tensors"].append(tensor()), m["subgraphs"][1]["inputs"].append(2)), choosing), "call", _CALL),
    Hostile("a choice by a number", _changed(_set("subgraphs", 0, "tensors", 0, to=tensor()), choosing), "call", _CALL),
    Hostile("a body that reads what nobody wrote", _changed(_set("subgraphs", 2, "operators", to=[])), "dataflow", "subgraphs[2].outputs"),
    Hostile("a body with a variable", _changed(_set("subgraphs", 2, "tensors", 1, "is_variable", to=True)), "variable", "subgraphs[2].tensors[1]"),
    Hostile("a subgraph that nothing calls", _changed(lambda m: m["subgraphs"].append(m["subgraphs"][2])), "subgraphs", "subgraphs"),
    Hostile("300 subgraphs", _changed(lambda m: m["subgraphs"].extend([m["subgraphs"][2]] * 300)), "subgraphs", "subgraphs"),
    Hostile("a tensor of 2^60 elements", _changed(_set("subgraphs", 0, "tensors", 2, to=tensor(shape=[1 << 30, 1 << 30])), model), "tensor-shape", f"{_MAIN}.tensors[2]"),
    Hostile("a row repeated 2^30 times", _changed(_set("buffers", 3, "data", to=struct.pack("<2i", 1, 1 << 30)), model), "size-too-large", f"{_MAIN}.operators[1]"),
    Hostile("activations of 2^31 in several subgraphs", _changed(lambda m: [each["tensors"].extend([tensor(shape=[1 << 28])] * 3) for each in m["subgraphs"]]), "too-large", f"{_MAIN}.tensors"),
    Hostile("an archive in place of a model", lambda: b"PK\x03\x04" + bytes(60), "identifier", "byte 4"),
)  # fmt: skip
