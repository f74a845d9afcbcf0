"""config.json: what may stand in it, and every attack of security.md 2.1 that is visible without loading."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.scanning.keras_config import scan_config, scan_metadata
from maas_gateway.scanning.keras_sizes import KerasLimits
from maas_gateway.scanning.scanner import Finding
from unit.scanning.keras_files import Config, dense, gadget, layer, sequential, with_key


def _scan(config: Any, **limits: int) -> list[Finding]:
    return scan_config(json.dumps(config).encode(), KerasLimits(**limits))


_LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAAAA==", "defaults": None, "closure": None}}
_EDGE = {
    "class_name": "__keras_tensor__",
    "config": {"shape": [None, 4], "dtype": "float32", "keras_history": ["start", 0, 0]},
}


def _function(module: str, name: Any, registered: Any = None) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": registered}


def _called(*arguments: Any) -> Config:
    return with_key(dense(), inbound_nodes=[{"args": list(arguments), "kwargs": {}}])


_HOSTILE = [
    ("a Python lambda as a layer", sequential(layer("Lambda", function=_LAMBDA)), "lambda", "/config/layers/1/config/function"),
    ("a Lambda layer without a function", sequential(layer("Lambda")), "class-runs-code", "/config/layers/1"),
    ("a lambda in a nested Sequential", sequential(sequential(layer("Lambda", function=_LAMBDA))), "lambda", "/config/layers/1/config/layers/1/config/function"),
    ("a lambda in TimeDistributed", sequential(layer("TimeDistributed", layer=layer("Lambda", function=_LAMBDA))), "class-runs-code", "/config/layers/1/config/layer"),
    ("a lambda in output_shape", sequential(with_key(layer("Reshape", output_shape=_LAMBDA))), "lambda", "/config/layers/1/config/output_shape"),
    ("a lambda as initializer", sequential(dense(kernel_initializer=_LAMBDA)), "lambda", "/config/layers/1/config/kernel_initializer"),
    ("a lambda as activation", sequential(dense(activation=_LAMBDA)), "lambda", "/config/layers/1/config/activation"),
    ("a lambda among the arguments of a call", sequential(_called(_LAMBDA)), "lambda", "/config/layers/1/inbound_nodes/0/args/0"),
    ("a lambda in compile_config", with_key(sequential(), compile_config={"loss": _LAMBDA}), "lambda", "/compile_config/loss"),
    ("a lambda in build_config", sequential(with_key(dense(), build_config={"x": _LAMBDA})), "lambda", "/config/layers/1/build_config/x"),
    ("CVE-2025-1550: os.system", sequential(gadget("os", "system")), "function-not-allowed", "/config/layers/1/config/function"),
    ("CVE-2025-1550: builtins.exec", sequential(gadget("builtins", "exec")), "function-not-allowed", "/config/layers/1/config/function"),
    ("CVE-2025-1550: subprocess.run", sequential(gadget("subprocess", "run")), "function-not-allowed", "/config/layers/1/config/function"),
    ("CVE-2025-8747: keras.utils.get_file", sequential(gadget("keras.utils", "get_file", origin="x", cache_dir="y")), "function-not-allowed", "/config/layers/1/config/function"),
    ("CVE-2025-9906: set_global_attribute", sequential(gadget("keras.src.backend.common.global_state", "set_global_attribute", value=False)), "function-not-allowed", "/config/layers/1/config/function"),
    ("CVE-2025-9906: enable_unsafe_deserialization", sequential(gadget("keras.config", "enable_unsafe_deserialization")), "function-not-allowed", "/config/layers/1/config/function"),
    ("CVE-2025-9906: load_model", sequential(gadget("keras.models", "load_model", safe_mode=False)), "function-not-allowed", "/config/layers/1/config/function"),
    ("no CVE: keras.config.set_floatx", sequential(gadget("keras.config", "set_floatx")), "function-not-allowed", "/config/layers/1/config/function"),
    ("no CVE: set_floatx as an activation", sequential(dense(activation=_function("keras.config", "set_floatx"))), "function-not-allowed", "/config/layers/1/config/activation"),
    ("no CVE: keras.datasets.mnist.load_data", sequential(gadget("keras.datasets.mnist", "load_data")), "function-not-allowed", "/config/layers/1/config/function"),
    ("no CVE: set_image_data_format", sequential(gadget("keras.config", "set_image_data_format")), "function-not-allowed", "/config/layers/1/config/function"),
    ("no CVE: KerasFileEditor as a class", sequential(layer("KerasFileEditor", module="keras.saving", filepath="x")), "class-not-allowed", "/config/layers/1"),
    ("no CVE: an application that downloads", sequential(layer("MobileNet", module="keras.applications")), "class-not-allowed", "/config/layers/1"),
    ("a function that deserialises", sequential(dense(activation=_function("builtins", "deserialize"))), "function-not-allowed", "/config/layers/1/config/activation"),
    ("a function whose name is no string", sequential(dense(activation=_function("builtins", ["relu"]))), "function-not-allowed", "/config/layers/1/config/activation"),
    ("CVE-2025-49655: TorchModuleWrapper", sequential(layer("TorchModuleWrapper", module_="x")), "class-runs-code", "/config/layers/1"),
    ("JaxLayer", sequential(layer("JaxLayer")), "class-runs-code", "/config/layers/1"),
    ("FlaxLayer", sequential(layer("FlaxLayer")), "class-runs-code", "/config/layers/1"),
    ("CVE-2026-1462: TFSMLayer", sequential(layer("TFSMLayer", filepath="x", call_endpoint="serve")), "class-runs-code", "/config/layers/1"),
    ("CVE-2025-12058: StringLookup with a path", sequential(layer("StringLookup", vocabulary="/etc/hostname")), "vocabulary", "/config/layers/1/config/vocabulary"),
    ("CVE-2025-12058: IntegerLookup with a URL", sequential(layer("IntegerLookup", vocabulary="http://x.invalid/v")), "vocabulary", "/config/layers/1/config/vocabulary"),
    ("CVE-2025-12058: TextVectorization with a bucket", sequential(layer("TextVectorization", vocabulary="gs://b/v")), "vocabulary", "/config/layers/1/config/vocabulary"),
    ("a vocabulary that hides its path in a list", sequential(layer("StringLookup", vocabulary=[["/etc/hostname"]])), "vocabulary", "/config/layers/1/config/vocabulary"),
    ("CVE-2026-12479: layer name ../../x", sequential(dense(name="../../x")), "name", "/config/layers/1/config/name"),
    ("a layer name that is an absolute path", sequential(dense(name="/etc/x")), "name", "/config/layers/1/config/name"),
    ("a layer name with a line break", sequential(dense(name="x\ny")), "name", "/config/layers/1/config/name"),
    ("a layer name of 129 characters", sequential(dense(name="x" * 129)), "name", "/config/layers/1/config/name"),
    ("registered_name smuggling", sequential(with_key(dense(), registered_name="package>Other")), "registered-name", "/config/layers/1"),
    ("registered_name on a function", sequential(dense(activation=_function("builtins", "relu", "package>relu"))), "registered-name", "/config/layers/1/config/activation"),
    ("a custom layer", sequential(layer("Mine", module="builtins")), "class-not-allowed", "/config/layers/1"),
    ("a class of Keras that is no layer", sequential(layer("Layer")), "class-not-allowed", "/config/layers/1"),
    ("a class of Keras by its inner module", sequential(layer("Dense", module="keras.src.layers.core.dense")), "class-not-allowed", "/config/layers/1"),
    ("a layer without a module, as Keras 2 wrote it", sequential({"class_name": "Dense", "config": {"units": 1}}), "class-not-allowed", "/config/layers/1"),
    ("a layer without a config", sequential({"class_name": "Dense", "module": "keras.layers"}), "class-malformed", "/config/layers/1"),
    ("a class name that is a list", sequential({"class_name": ["Dense"], "config": {}}), "class-malformed", "/config/layers/1"),
    ("a class name that cannot be hashed among the modules", sequential({"class_name": "Dense", "module": {}, "config": {}}), "class-not-allowed", "/config/layers/1"),
    ("an unknown key beside class_name", sequential(with_key(dense(), spec_name="x")), "class-malformed", "/config/layers/1"),
    ("an operation that takes a function", sequential(layer("Map", module="keras.src.ops.core")), "class-not-allowed", "/config/layers/1"),
    ("an optimizer outside compile_config", sequential(dense(activation=layer("Adam", module="keras.optimizers"))), "class-misplaced", "/config/layers/1/config/activation"),
    ("a metric that calls a function by name", with_key(sequential(), compile_config={"metrics": [layer("MeanMetricWrapper", module="keras.metrics")]}), "class-not-allowed", "/compile_config/metrics/0"),
    ("a __typespec__ form", sequential(dense(dtype={"class_name": "__typespec__", "config": [], "spec_name": "x", "module": "os"})), "form-not-allowed", "/config/layers/1/config/dtype"),
    ("an edge with a foreign key", sequential(_called({**_EDGE, "module": "os"})), "form-malformed", "/config/layers/1/inbound_nodes/0/args/0"),
    ("an edge whose dtype is an object", sequential(_called({**_EDGE, "config": {**_EDGE["config"], "dtype": {}}})), "form-malformed", "/config/layers/1/inbound_nodes/0/args/0"),
    ("a constant whose dtype is a list", sequential(_called({"class_name": "__numpy__", "config": {"value": [1], "dtype": []}})), "form-malformed", "/config/layers/1/inbound_nodes/0/args/0"),
    ("a constant of text", sequential(_called({"class_name": "__numpy__", "config": {"value": ["x"], "dtype": "float32"}})), "form-malformed", "/config/layers/1/inbound_nodes/0/args/0"),
    ("a constant of dtype object", sequential(_called({"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}})), "form-malformed", "/config/layers/1/inbound_nodes/0/args/0"),
    ("a slice of code", sequential(_called({"class_name": "__slice__", "config": {"start": _LAMBDA, "stop": None, "step": None}})), "form-malformed", "/config/layers/1/inbound_nodes/0/args/0"),
    ("RepeatVector(2e9)", sequential(layer("RepeatVector", n=2_000_000_000)), "number-too-large", "/config/layers/1/config/n"),
    ("RepeatVector(2e9) as a float", sequential(layer("RepeatVector", n=2e9)), "number-too-large", "/config/layers/1/config/n"),
    ("two RepeatVectors that multiply", sequential(*[layer("RepeatVector", n=16_000)] * 2), "growth-too-large", "/config/layers/2"),
    ("UpSampling2D by a thousand", sequential(layer("UpSampling2D", size=[1000, 1000])), "growth-too-large", "/config/layers/1"),
    ("an LSTM that keeps its state between requests", sequential(layer("LSTM", stateful=True)), "stateful", "/config/layers/1/config/stateful"),
    ("a state hidden in Bidirectional", sequential(layer("Bidirectional", layer=layer("GRU", stateful=1))), "stateful", "/config/layers/1/config/layer/config/stateful"),
    ("Dense with 2^40 units", sequential(dense(units=2**40)), "number-too-large", "/config/layers/1/config/units"),
    ("a chain of layers with 2^40 weights", sequential(dense(units=2**20), with_key(dense(units=2**20), build_config={"input_shape": [None, 2**20]})), "too-many-parameters", "/config/layers/2"),
    ("weights that no build_config tells", sequential(dense(units=2**20), layer("Dense", units=2**20)), "too-many-parameters", "/config/layers/2"),
    ("an Embedding of 2^26 by 2^16", sequential(layer("Embedding", input_dim=2**26, output_dim=2**16)), "too-many-parameters", "/config/layers/1"),
    ("an input of 2^40 elements", sequential(layer("InputLayer", batch_shape=[None, 2**20, 2**20])), "shape-too-large", "/config/layers/1/config/batch_shape"),
    ("a dimension beyond 2^31", sequential(layer("Reshape", target_shape=[2**32])), "shape-too-large", "/config/layers/1/config/target_shape"),
    ("an unknown dtype", sequential(dense(dtype="object")), "dtype", "/config/layers/1/config/dtype"),
    ("a text of a megabyte", sequential(dense(activation="x" * 2**20)), "text-too-long", "/config/layers/1/config/activation"),
    ("a top that is a layer", dense(), "not-a-model", "/"),
    ("a top that is a list", [sequential()], "not-a-model", "/"),
    ("a subclassed model", layer("Mine", module="my_models"), "not-a-model", "/"),
    ("5,001 layers", sequential(*[layer("Flatten")] * 5001), "too-many-layers", "/"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "rule", "place"), [row[1:] for row in _HOSTILE], ids=[row[0] for row in _HOSTILE])
def test_scan_config_refuses(config: Config, rule: str, place: str) -> None:
    findings = _scan(config)
    assert (rule, f"config.json: {place}") in {(finding.rule, finding.where) for finding in findings}
    assert {finding.severity for finding in findings} == {"refuse"}


_BROKEN = [
    ("a list nested 200,000 deep", b"[" * 200_000 + b"]" * 200_000, "json-depth"),
    ("65 levels of objects", b'{"a":' * 65 + b"1" + b"}" * 65, "json-depth"),
    ("two million values", b"[" + b"0," * 2_000_000 + b"0]", "json-size"),
    ("one key twice", b'{"class_name": "Dense", "class_name": "Lambda"}', "json-duplicate-key"),
    ("one key twice by an escape", b'{"a": 1, "\\u0061": 2}', "json-duplicate-key"),
    ("NaN", b'{"a": NaN}', "json-number"),
    ("minus Infinity", b"[-Infinity]", "json-number"),
    ("a float that overflows", b"[1e999]", "json-number"),
    ("an integer of 5,000 digits", b"[" + b"9" * 5000 + b"]", "json-number"),
    ("bytes that are not UTF-8", b'{"a": "\xff"}', "json-encoding"),
    ("half a character", b'{"a": ["\\ud800"]}', "json-encoding"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "json-syntax"),
    ("UTF-16", "{}".encode("utf-16"), "json-encoding"),
    ("nothing", b"", "json-syntax"),
    ("two documents", b"{}{}", "json-syntax"),
    ("a string that does not end", b'{"a', "json-syntax"),
]


@pytest.mark.parametrize(("raw", "rule"), [row[1:] for row in _BROKEN], ids=[row[0] for row in _BROKEN])
def test_scan_config_refuses_json_with(raw: bytes, rule: str) -> None:
    assert [(finding.rule, finding.where) for finding in scan_config(raw)] == [(rule, "config.json")]


def _wide(class_name: str, **config: Any) -> Config:
    """A convolution of 1,024 channels, which has 51 million weights if each filter sees them all."""
    made = layer(class_name, filters=1024, kernel_size=[7, 7], **config)
    return with_key(made, build_config={"input_shape": [None, 14, 14, 1024]})


def test_scan_config_counts_a_convolution_without_groups_as_it_is() -> None:
    findings = _scan(sequential(*[_wide("Conv2D", groups=1)] * 20))
    assert [finding.rule for finding in findings] == ["too-many-parameters"]


_BENIGN = [
    ("a dense layer", sequential(dense())),
    ("an activation as Keras writes a function", sequential(dense(activation=_function("builtins", "relu", "relu")))),
    ("an activation by its public module", sequential(dense(activation=_function("keras.activations", "gelu", "gelu")))),
    ("an inline vocabulary", sequential(layer("StringLookup", vocabulary=["a", "../b", "/etc/c"]))),
    ("a vocabulary still to be adapted", sequential(layer("StringLookup", vocabulary=None))),
    ("indexing", sequential(_called(_EDGE, [{"class_name": "__slice__", "config": {"start": 0, "stop": None, "step": None}}, {"class_name": "__ellipsis__", "config": {}}]))),
    ("a large constant in a call", sequential(_called(_EDGE, 1_000_000))),
    ("a numeric constant", sequential(_called({"class_name": "__numpy__", "config": {"value": [[1.0, 2]], "dtype": "float32"}}))),
    ("a large seed", sequential(layer("Dropout", rate=0.5, seed=2**62))),
    ("a padding mask far below zero", sequential(layer("Masking", mask_value=-(10**9)))),
    ("a vocabulary of a million tokens", sequential(layer("StringLookup", vocabulary=None, vocabulary_size=1_000_000))),
    ("a picture resized by an operation", sequential(layer("Resize", module="keras.src.ops.image", size=[1024, 768]))),
    ("a long row reshaped by an operation", sequential(layer("Reshape", module="keras.src.ops.numpy", newshape=[-1, 100_352]))),
    ("fifteen upsamplings, as in a nested U-Net", sequential(*[layer("UpSampling2D", size=[2, 2])] * 15)),
    ("wide convolutions in groups, as in ConvNeXt", sequential(*[_wide("Conv2D", groups=1024)] * 20)),
    ("wide separable convolutions, as in NASNet", sequential(*[_wide("SeparableConv2D", depth_multiplier=1)] * 20)),
    ("a recurrent layer without a state", sequential(layer("LSTM", stateful=False))),
    ("an inner space in a name", sequential(dense(name="inner block"))),
]  # fmt: skip


@pytest.mark.parametrize("config", [row[1] for row in _BENIGN], ids=[row[0] for row in _BENIGN])
def test_scan_config_accepts(config: Config) -> None:
    assert _scan(config) == []


def _functional(*layers: Config, outputs: Any) -> Config:
    start = with_key(layer("InputLayer", batch_shape=[None, 4], name="start"), name="start", inbound_nodes=[])
    return layer(
        "Functional",
        module="keras.src.models.functional",
        name="model",
        layers=[start, *layers],
        input_layers=[["start", 0, 0]],
        output_layers=outputs,
    )


def _named(name: str, *origins: str) -> Config:
    edges = [{**_EDGE, "config": {**_EDGE["config"], "keras_history": [origin, 0, 0]}} for origin in origins]
    calls = [{"args": [edges], "kwargs": {}}]
    return with_key(dense(name=name), name=name, inbound_nodes=calls)


def test_scan_config_asks_a_person_about_a_layer_that_no_output_depends_on() -> None:
    layers = [_named("a", "start"), _named("hidden", "a"), _named("b", "a"), _named("c", "b", "start")]
    assert _scan(_functional(*layers, outputs=[["c", 0, 0], ["hidden", 0, 0]])) == []
    (finding,) = _scan(_functional(*layers, outputs={"answer": ["c", 0, 0]}))
    assert (finding.rule, finding.severity) == ("unreached-layer", "review")
    assert finding.where == "config.json: /config/layers/2"


def test_scan_config_refuses_whatever_is_hidden_behind_what_a_person_should_see() -> None:
    """Findings are bounded in number: many of one severity do not crowd out one of the other."""
    layers = [_named(f"x{n}", "start") for n in range(200)]
    findings = _scan(_functional(*layers, layer("Lambda"), outputs=[["start", 0, 0]]))
    assert "class-runs-code" in {finding.rule for finding in findings if finding.severity == "refuse"}


def test_scan_config_counts_layers_against_the_limit_given() -> None:
    assert _scan(sequential(dense()), max_layers=2) != []
    assert _scan(sequential(dense()), max_layers=3) == []


def test_scan_config_keeps_text_of_the_file_out_of_its_findings() -> None:
    findings = _scan(sequential(layer("x\x1b[31m\n" + "y" * 9999, **{"k\n\x1b" * 99: _LAMBDA})))
    for finding in findings:
        assert (finding.message + finding.where).replace("…", "").isprintable()
        assert len(finding.message) < 400


def test_scan_config_stops_collecting_findings() -> None:
    assert len(_scan(sequential(*[layer("Lambda")] * 1000))) <= 50


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"[]", "metadata-malformed"),
        (b'{"keras_version": 3}', "metadata-malformed"),
        (b'{"keras_version": "2.15.0"}', "keras-version"),
        (b"{}", "keras-version"),
        (b"\xff", "json-encoding"),
    ],
)
def test_scan_metadata_refuses(raw: bytes, rule: str) -> None:
    assert [finding.rule for finding in scan_metadata(raw)] == [rule]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Dense", "function", "__slice__", "keras"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.sampled_from(["class_name", "config", "module", "build_config", "layers", "batch_shape", "size", "units", "kernel_size"]), inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(_VALUES)
def test_scan_config_never_raises(value: Any) -> None:
    findings = _scan(sequential(with_key(dense(), config=value), value))
    assert all(finding.severity == "refuse" for finding in findings)


@given(st.binary(max_size=200))
def test_scan_config_never_raises_on_bytes(raw: bytes) -> None:
    assert scan_config(raw) != []
