"""Every hostile SavedModel of the suite: what it would do is harmless (a marker file, a file that is not there)."""

from collections.abc import Callable
from typing import Any, Final

from builders.hostile import Hostile, Scene
from builders.hostile_savedmodel_archives import ARCHIVES
from builders.tf_models import (
    FLOAT,
    INT32,
    INT64,
    STRING,
    Fields,
    call,
    calls,
    constant,
    function,
    function_of,
    graph_of,
    library_of,
    meta_graph_of,
    node,
    objects_of,
    packed,
    saved_model,
    text,
)

Change = Callable[[Fields, Scene], Any]

_SERVED: Final = "signature 'serving_default': function '__inference_served_2': node "


def _file(name: str, about: str, change: Change, rule: str, where: str) -> Hostile:
    def build(scene: Scene) -> bytes:
        model = saved_model()
        change(model, scene)
        return packed(model)

    return Hostile(f"{name}.tar", about, build, rule, where)


def _add(part: str, *nodes: Callable[[Scene], Fields] | Fields) -> Change:
    """Return a change that adds nodes to a function, or to the graph."""

    def change(model: Fields, scene: Scene) -> None:
        made = [entry if isinstance(entry, dict) else entry(scene) for entry in nodes]
        graph = graph_of(model)["node"] if part == "graph" else function_of(model, part)["node_def"]
        graph.extend(made)

    return change


def _path(scene: Scene) -> Fields:
    return text("path", str(scene.marker).encode())


def _secret(scene: Scene) -> Fields:
    return text("path", str(scene.secret).encode())


def _operator(
    op: str, about: str, *inputs: str, before: Callable[[Scene], Fields] = _path, **attributes: Fields
) -> Hostile:
    """A served function with one more node, reached because the engine runs what has effects."""
    return _file(
        f"op-{op}",
        about,
        _add("served", before, node("evil", op, *inputs, **attributes)),
        "operator-not-allowed",
        f"{_SERVED}'evil'",
    )


_NAMES: Final = {"T": {"list": {"type": [STRING]}}}
_OPERATORS: Final = (
    _operator("ReadFile", "reads a file", "path:output:0", before=_secret),
    _operator("WriteFile", "writes a file", "path:output:0", "path:output:0"),
    _operator("MatchingFiles", "lists a folder", "path:output:0"),
    _operator("PrintV2", "appends to a file", "path:output:0", output_stream={"s": b"file:///marker"}),
    _operator("PyFunc", "calls Python", Tin={"list": {}}, token={"s": b"pyfunc_0"}),
    _operator("PyFuncStateless", "calls Python", token={"s": b"pyfunc_0"}),
    _operator("EagerPyFunc", "calls Python", token={"s": b"pyfunc_0"}),
    _operator("InitializeTableFromTextFileV2", "reads a file into a table", "path:output:0", before=_secret),
    _operator("ImmutableConst", "maps a file as a tensor", memory_region_name={"s": b"/etc/hostname"}),
    _operator("SaveV2", "writes a checkpoint when it is served", "path:output:0", dtypes=_NAMES["T"]),
    _operator("RestoreV2", "reads a checkpoint when it is served", "path:output:0", before=_secret),
    _operator("LoadAndRemapMatrix", "reads a checkpoint", "path:output:0", before=_secret),
    _operator("DumpTensor", "writes a tensor to a file", "x", dump_dir={"s": b"/nowhere"}),
    _operator("WholeFileReaderV2", "keeps a reader of files"),
    _operator("TextLineDataset", "reads a file as a data set", "path:output:0"),
    _operator("CreateSummaryFileWriter", "writes event files", "path:output:0"),
    _operator("FIFOQueueV2", "keeps a queue from call to call", component_types={"list": {"type": [FLOAT]}}),
    _operator("Stage", "keeps values from call to call", "x", dtypes={"list": {"type": [FLOAT]}}),
    _operator("BatchFunction", "puts requests together by itself", "x", f=calls("__inference_inner_1")),
    _operator("RemoteCall", "calls a function on another machine", "path:output:0", f=calls("__inference_inner_1")),
    _operator("RpcClient", "opens a connection", "path:output:0"),
    _operator("CollectiveReduceV2", "waits for other machines", "x"),
    _operator("XlaCustomCall", "calls a native function by name", "x"),
    _operator("TPUReplicate", "moves to another device", "x", computation=calls("__inference_inner_1")),
    _operator("SymbolicGradient", "calls a function that is made at run time", "x", f=calls("__inference_inner_1")),
    _operator("FileSystemSetConfiguration", "changes how files are reached", "path:output:0"),
    _operator("SleepOp", "sleeps"),
    _operator("DecodeImage", "parses an image"),
    _operator("__inference_inner_1", "calls a function by an operator of its name", "x"),
)


def _loop(model: Fields, _scene: Scene) -> None:
    """A loop whose body reads a file, three calls below what is served."""
    body = function("__inference_body_6", text("path", b"/etc/hostname"), node("evil", "ReadFile", "path:output:0"))
    test = function("__inference_cond_7", constant("yes", 10, bool_val=[1]), ret="yes:output:0")
    library_of(model).extend([body, test])
    loop = node("loop", "While", "x", body=calls("__inference_body_6"), cond=calls("__inference_cond_7"))
    function_of(model, "inner")["node_def"].append(loop)


def _branches(model: Fields, _scene: Scene) -> None:
    """A branch, named in a list of functions."""
    branch = function("__inference_branch_6", node("evil", "WriteFile", "x", "x"))
    library_of(model).append(branch)
    row = {"list": {"func": [{"name": "__inference_inner_1"}, {"name": "__inference_branch_6"}]}}
    function_of(model, "served")["node_def"].append(node("case", "Case", "x", branches=row))


def _in_attribute(model: Fields, _scene: Scene) -> None:
    """A function that is named by an attribute of the function that an attribute names."""
    library_of(model).append(function("__inference_deep_6", node("evil", "ReadFile", "x")))
    deep = {"func": {"name": "__inference_inner_1", "attr": {"g": calls("__inference_deep_6")}}}
    function_of(model, "served")["node_def"].append(node("call", "PartitionedCall", "x", f=deep))


def _signature_swap(model: Fields, _scene: Scene) -> None:
    """The SignatureDef is clean; the object graph, which is what is loaded, says another function."""
    library_of(model).append(function("__inference_other_6", node("evil", "AssignAddVariableOp", "x", "x")))
    objects_of(model)[2]["bare_concrete_function"]["concrete_function_name"] = "__inference_other_6"
    meta_graph_of(model)["object_graph_def"]["concrete_functions"]["__inference_other_6"] = {}


def _unused(model: Fields, scene: Scene) -> None:
    """A function that nothing calls; what is constant in it is computed when it is loaded."""
    nodes = [_secret(scene), node("evil", "ReadFile", "path:output:0")]
    library_of(model).append(function("__inference_unused_6", *nodes))


def _init(model: Fields, scene: Scene) -> None:
    """The initialising node depends on one that writes."""
    graph_of(model)["node"] += [_path(scene), node("evil", "WriteFile", "path", "path")]
    graph_of(model)["node"][2]["input"] = ["^evil"]


def _main_op(model: Fields, scene: Scene) -> None:
    graph_of(model)["node"] += [_path(scene), node("evil", "WriteFile", "path", "path")]
    meta_graph_of(model)["collection_def"] = {"legacy_init_op": {"node_list": {"value": ["evil"]}}}


_PLACES: Final = (
    _file(
        "in-loop",
        "reads a file in a loop's body",
        _loop,
        "operator-not-allowed",
        "signature 'serving_default': function '__inference_body_6': node 'evil'",
    ),
    _file(
        "in-branch",
        "writes a file in one branch",
        _branches,
        "operator-not-allowed",
        "signature 'serving_default': function '__inference_branch_6': node 'evil'",
    ),
    _file(
        "in-nested-attribute",
        "hides a function in an attribute's attribute",
        _in_attribute,
        "operator-not-allowed",
        "signature 'serving_default': function '__inference_deep_6': node 'evil'",
    ),
    _file(
        "in-nested-function",
        "reads a file two calls deep",
        _add("inner", _secret, node("evil", "ReadFile", "path:output:0")),
        "operator-not-allowed",
        "signature 'serving_default': function '__inference_inner_1': node 'evil'",
    ),
    _file(
        "in-spare-function",
        "writes in a function that no signature calls",
        _add("spare", _path, node("evil", "WriteFile", "path:output:0", "path:output:0")),
        "operator-not-allowed",
        "object graph: function '__inference_spare_3': node 'evil'",
    ),
    _file(
        "in-unused-function",
        "reads a file when it is loaded",
        _unused,
        "operator-not-allowed",
        "not in use: function '__inference_unused_6': node 'evil'",
    ),
    _file(
        "in-unused-node",
        "reads a file in the graph, unused",
        _add("graph", _secret, node("evil", "ReadFile", "path")),
        "operator-not-allowed",
        "not in use: graph: node 'evil'",
    ),
    _file(
        "in-init-op",
        "writes a file when it is initialised",
        _init,
        "operator-not-allowed",
        "signature '__saved_model_init_op': graph: node 'evil'",
    ),
    _file(
        "in-main-op",
        "writes a file when it is initialised",
        _main_op,
        "operator-not-allowed",
        "collection 'legacy_init_op': graph: node 'evil'",
    ),
    _file(
        "in-saver",
        "lists a folder where the saver is",
        _add("traced_save", node("evil", "MatchingFiles", "x")),
        "operator-not-allowed",
        "saver: function '__inference__traced_save_4': node 'evil'",
    ),
    _file(
        "in-swapped-signature",
        "serves another function than the signature says",
        _signature_swap,
        "operator-keeps-state",
        "signature 'serving_default': function '__inference_other_6': node 'evil'",
    ),
    _file(
        "state-counter",
        "counts its calls",
        _add("served", node("evil", "AssignAddVariableOp", "x", "x")),
        "operator-keeps-state",
        f"{_SERVED}'evil'",
    ),
    _file(
        "state-random",
        "draws random numbers",
        _add("served", node("evil", "RandomUniform", "x")),
        "operator-keeps-state",
        f"{_SERVED}'evil'",
    ),
    _file(
        "state-table",
        "remembers texts",
        _add("served", node("evil", "LookupTableInsertV2", "x", "x", "x")),
        "operator-keeps-state",
        f"{_SERVED}'evil'",
    ),
)


def _recursion(model: Fields, _scene: Scene) -> None:
    function_of(model, "inner")["node_def"].append(call("again", "__inference_served_2", "x"))


def _chain(n_functions: int, n_calls: int) -> Change:
    """Functions that each call the next one some times."""

    def change(model: Fields, _scene: Scene) -> None:
        for number in range(n_functions):
            following = f"__inference_chain_{number + 1}" if number + 1 < n_functions else "__inference_inner_1"
            nodes = [call(f"call_{index}", following, "x") for index in range(n_calls)]
            library_of(model).append(function(f"__inference_chain_{number}", *nodes))
        function_of(model, "served")["node_def"].append(call("chain", "__inference_chain_0", "x"))

    return change


def _repeat(model: Fields, _scene: Scene) -> None:
    library_of(model).append(function("__inference_inner_1", node("evil", "ReadFile", "x")))


def _two_values(model: Fields, _scene: Scene) -> None:
    value = {"i": 1, "func": {"name": "__inference_inner_1"}}
    function_of(model, "served")["node_def"].append(node("evil", "PartitionedCall", "x", f=value))


def _same_key(model: Fields, _scene: Scene) -> None:
    attributes = [
        {"key": "f", "value": calls("__inference_inner_1")},
        {"key": "f", "value": calls("__inference_spare_3")},
    ]
    function_of(model, "served")["node_def"].append({"name": "evil", "op": "PartitionedCall", "attr": attributes})


def _shadow(model: Fields, _scene: Scene) -> None:
    library_of(model).append(function("Square", node("evil", "Neg", "x")))


_AT_EVIL: Final = "function '__inference_served_2': node 'evil'"
_STRUCTURE: Final = (
    _file("recursion", "calls itself by a detour", _recursion, "recursion", "function '__inference_"),
    _file(
        "call-bomb",
        "unfolds to a thousand million calls",
        _chain(30, 2),
        "too-many-nodes",
        "function '__inference_chain_",
    ),
    _file("call-tower", "nests calls a hundred deep", _chain(100, 1), "nested-too-deeply", "function '__inference_"),
    _file(
        "const-bomb",
        "17 bytes that stand for 200 MB",
        _add("served", constant("evil", FLOAT, (50_000_000,), float_val=[1.0])),
        "constant-bomb",
        _AT_EVIL,
    ),
    _file(
        "const-bombs",
        "many small ones",
        _add("served", *(constant(f"evil{index}", INT64, (1_000_000,), int64_val=[7]) for index in range(9))),
        "constant-bomb",
        "function '__inference_served_2': node 'evil8'",
    ),
    _file(
        "string-bomb",
        "one text that stands for a million",
        _add("served", constant("evil", STRING, (1_000_000,), string_val=[b"x" * 1000])),
        "constant-bomb",
        _AT_EVIL,
    ),
    _file("const-negative", "a negative dimension", _add("served", constant("evil", FLOAT, (-5,))), "shape", _AT_EVIL),
    _file(
        "const-unknown",
        "a dimension that is not known",
        _add("served", constant("evil", FLOAT, (-1,))),
        "constant-shape",
        _AT_EVIL,
    ),
    _file(
        "const-resource",
        "a handle of a resource",
        _add("served", constant("evil", 20, resource_handle_val=[b""])),
        "constant-type",
        _AT_EVIL,
    ),
    _file(
        "const-short",
        "fewer bytes than its shape asks for",
        _add("served", constant("evil", FLOAT, (8,), tensor_content=bytes(31))),
        "constant-size",
        _AT_EVIL,
    ),
    _file(
        "const-twice",
        "values in two ways",
        _add("served", constant("evil", FLOAT, (1,), tensor_content=bytes(4), float_val=[1.0])),
        "two-values",
        _AT_EVIL,
    ),
    _file(
        "shape-bomb",
        "a shape of 2**60 elements",
        _add("served", node("evil", "Placeholder", shape={"shape": {"dim": [{"size": 1 << 30}, {"size": 1 << 30}]}})),
        "shape",
        _AT_EVIL,
    ),
    _file(
        "fill-bomb",
        "fills 2**40 elements",
        _add("served", constant("dims", INT32, (2,), int_val=[1 << 20]), node("evil", "Fill", "dims:output:0", "x")),
        "size-argument",
        _AT_EVIL,
    ),
    _file(
        "unknown-function",
        "calls what is not there",
        _add("served", call("evil", "__inference_nowhere", "x")),
        "unknown-function",
        "function '__inference_served_2'",
    ),
    _file(
        "function-twice", "a function with two bodies", _repeat, "duplicate-function", "function '__inference_inner_1'"
    ),
    _file(
        "node-twice",
        "two nodes of one name",
        _add("served", node("evil", "Neg", "x"), node("evil", "ReadFile", "x")),
        "duplicate-node",
        _AT_EVIL,
    ),
    _file("attribute-twice", "an attribute with two values", _same_key, "duplicate-key", "SavedModel.meta_graphs[0]"),
    _file("value-twice", "a value of two forms", _two_values, "two-values", _AT_EVIL),
    _file("shadowed-operator", "a function named like an operator", _shadow, "function-name", "function 'Square'"),
    _file(
        "dangling-input",
        "an input that is not there",
        _add("graph", node("evil", "Neg", "nowhere:0")),
        "dangling-input",
        "graph: node 'evil'",
    ),
)


def _set(part: Callable[[Fields], Fields], **fields: Any) -> Change:
    return lambda model, _scene: part(model).update(fields)


def _object(index: int, **fields: Any) -> Change:
    return lambda model, _scene: objects_of(model)[index].update(fields)


def _other_object(**fields: Any) -> Change:
    return lambda model, _scene: objects_of(model).append(fields)


def _second_meta_graph(model: Fields, _scene: Scene) -> None:
    model["meta_graphs"].append({**meta_graph_of(model), "meta_info_def": {"tags": ["train"]}})


def _tensor_argument(model: Fields, _scene: Scene) -> None:
    bomb = {"tensor_value": b""}
    functions = meta_graph_of(model)["object_graph_def"]["concrete_functions"]
    functions["__inference_spare_3"] = {"output_signature": {"list_value": {"values": [bomb]}}}


def _unknown_field(model: Fields, _scene: Scene) -> None:
    meta_graph_of(model)["graph_def"]["debug_info"] = b"\x0a\x01/"


_PACKAGING: Final = (
    _file(
        "assets",
        "names an asset, which is read by its path",
        _set(meta_graph_of, asset_file_def=[b""]),
        "assets",
        "saved_model.pb",
    ),
    _file(
        "asset-object",
        "an object that is an asset",
        _other_object(asset={"asset_file_def_index": 0}),
        "object-kind",
        "object 4",
    ),
    _file(
        "captured-tensor",
        "an object taken out of a function",
        _other_object(captured_tensor=b""),
        "object-kind",
        "object 4",
    ),
    _file(
        "registered-class",
        "an object of a class by its name",
        _object(3, registered_name="keras.Lambda"),
        "registered-class",
        "object 3",
    ),
    _file(
        "registered-saver",
        "an object with a saver of its own",
        _object(3, registered_saver="my.saver"),
        "registered-class",
        "object 3",
    ),
    _file(
        "foreign-object",
        "an optimizer, for which a module is imported",
        _other_object(user_object={"identifier": "optimizer"}),
        "object-kind",
        "object 4",
    ),
    _file(
        "special-attribute",
        "an attribute that Python reads itself",
        _object(0, children=[{"node_id": 3, "local_name": "__class__"}]),
        "attribute-name",
        "object 0",
    ),
    _file(
        "object-outside",
        "an object that is not there",
        _object(0, children=[{"node_id": 99, "local_name": "x"}]),
        "object-reference",
        "object 0",
    ),
    _file(
        "tensor-argument",
        "a tensor as a function's argument",
        _tensor_argument,
        "structure",
        "function '__inference_spare_3'",
    ),
    _file(
        "collection",
        "a collection of TensorFlow 1",
        _set(meta_graph_of, collection_def={"saved_model_assets": {"any_list": b""}}),
        "collection",
        "collection 'saved_model_assets'",
    ),
    _file("two-graphs", "a second MetaGraph", _second_meta_graph, "meta-graphs", "saved_model.pb"),
    _file(
        "other-tag",
        "a MetaGraph for training",
        _set(meta_graph_of, meta_info_def={"tags": ["serve", "gpu"]}),
        "tags",
        "saved_model.pb",
    ),
    _file(
        "any-message",
        "a message of a type of its own",
        _set(meta_graph_of, meta_info_def={"tags": ["serve"], "any_info": b""}),
        "foreign-message",
        "SavedModel.meta_graphs[0]",
    ),
    _file(
        "defaults",
        "default values of inputs",
        _set(lambda model: meta_graph_of(model)["signature_def"]["serving_default"], defaults=[b""]),
        "signature-defaults",
        "signature 'serving_default'",
    ),
    _file(
        "call-sites", "a graph with call sites", _unknown_field, "debug-info", "SavedModel.meta_graphs[0].graph_def[0]"
    ),
    Hostile(
        "tensorflow-1.tar",
        "no object graph: loading runs its saver",
        lambda _scene: _without("object_graph_def"),
        "no-objects",
        "saved_model.pb",
    ),
    Hostile("no-signature.tar", "no signature", lambda _scene: _without_signature(), "no-signature", "saved_model.pb"),
)


def _without(field: str) -> bytes:
    model = saved_model()
    del meta_graph_of(model)[field]
    return packed(model)


def _without_signature() -> bytes:
    model = saved_model()
    objects_of(model)[1]["children"] = []
    return packed(model)


HOSTILE: Final = (*_OPERATORS, *_PLACES, *_STRUCTURE, *_PACKAGING, *ARCHIVES)
