"""config.json of a Keras 3 model: only layers of Keras itself, with plain values, within bounds.

Rules (security.md 2.3, items 2 and 3):
    * Strict JSON (`strict_json`), at most 64 levels deep; the top is a Sequential or Functional model.
    * An object is any mapping with `class_name`. Its (module, class) pair stands in `keras_names`, wherever it occurs:
      layer, wrapper, activation, initializer, `compile_config`. Optimizers, losses and metrics count in
      `compile_config` only. A mapping without `module` (formats before Keras 3) is refused.
    * `registered_name` is absent, null or the class's own name, so no custom object is ever looked up.
    * `class_name: function` names an activation, loss or metric of Keras.
    * Special forms: `keras_forms`. Sizes: `keras_sizes`.
    * Names are `[A-Za-z0-9_.-]` with inner `/` or space, at most 128, without `..`; vocabularies are lists, never a
      path; dtypes are known.
    * No layer keeps state between calls (`stateful`): one request would change another's answer. A call with
      `training=True` does nothing of that kind, since a functional model that answers overrides it.
    * A layer that no output depends on asks for a person (`keras_graph`).
    * `compile_config` is not used for serving, and yet held to the same lists: loaders differ in whether they read it.

What this does not decide: whether the weights fit the config (the loader in the confined child does).
"""

import re
from collections.abc import Mapping
from typing import Final

from maas_gateway.scanning import keras_names as names
from maas_gateway.scanning.keras_forms import form_fault
from maas_gateway.scanning.keras_graph import unreached
from maas_gateway.scanning.keras_sizes import (
    SHAPE_KEYS,
    KerasLimits,
    cap_of,
    growth_of,
    parameters_of,
    shape_fits,
    width_of,
)
from maas_gateway.scanning.scanner import MAX_FINDINGS, Finding, Refusal, Severity, clip
from maas_gateway.scanning.strict_json import JSON, read_json

CONFIG: Final = "config.json"
METADATA: Final = "metadata.json"

_NAME: Final = re.compile(r"[A-Za-z0-9_.-](?:[A-Za-z0-9_./ -]{0,126}[A-Za-z0-9_.-])?")
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OBJECT_KEYS: Final = frozenset(
    [
        "module",
        "class_name",
        "config",
        "registered_name",
        "shared_object_id",
        "build_config",
        "compile_config",
        "name",
        "inbound_nodes",
    ]
)
_VOCABULARY_KEYS: Final = frozenset(["vocabulary", "idf_weights"])
_MAX_TEXT_CHARS: Final = 4096
_COUNTED: Final = (names.MODELS, names.LAYERS, names.OPERATIONS)


def scan_config(raw: bytes, limits: KerasLimits | None = None) -> list[Finding]:
    """Return what there is to say about a model's config.json, nothing if it may be loaded.

    Args:
        raw: the whole member.
        limits: other bounds than the usual ones.
    """
    try:
        top = read_json(raw, where=CONFIG)
    except Refusal as refusal:
        return [refusal.finding]
    walk = _Walk(limits or KerasLimits())
    if not isinstance(top, dict) or not _is_listed(names.MODELS, top.get("module"), top.get("class_name")):
        walk.refuse("not-a-model", "", "the top must be a Sequential or Functional model of Keras 3.")
    walk.value(top, "", key="")
    walk.totals()
    return walk.findings


def scan_metadata(raw: bytes) -> list[Finding]:
    """Return what there is to say about metadata.json: an object of short strings, written by Keras 3."""
    try:
        top = read_json(raw, where=METADATA)
    except Refusal as refusal:
        return [refusal.finding]
    if not isinstance(top, dict) or not all(isinstance(value, str) for value in top.values()):
        return [Finding("metadata-malformed", "refuse", METADATA, "it must be an object of strings.")]
    version = top.get("keras_version")
    if not isinstance(version, str) or not version.startswith("3."):
        return [
            Finding("keras-version", "refuse", METADATA, f"written by Keras {clip(version)}; re-save with Keras 3.")
        ]
    return []


def _is_listed(listed: Mapping[str, frozenset[str]], module: JSON, name: JSON) -> bool:
    return isinstance(module, str) and isinstance(name, str) and name in listed.get(module, frozenset())


class _Walk:
    """One pass over the parsed config; collects findings and the model's declared sizes.

    Recursion is bounded: `strict_json` refused everything deeper than 64 levels.
    """

    def __init__(self, limits: KerasLimits) -> None:
        self._limits = limits
        self._layers: list[tuple[str, str, dict[str, JSON], JSON]] = []
        self._n_layers = 0
        self.findings: list[Finding] = []

    def refuse(self, rule: str, place: str, message: str, *, severity: Severity = "refuse") -> None:
        """Add a finding at `place` inside config.json, a refusing one if nothing else is said."""
        # Each severity has room of its own: what a person shall look at never crowds out what is refused.
        if sum(finding.severity == severity for finding in self.findings) < MAX_FINDINGS:
            where = f"{CONFIG}: {place or '/'}"
            self.findings.append(Finding(rule, severity, where, message))

    def value(self, node: JSON, place: str, *, key: str, scope: str = "config") -> None:
        """Look at one value.

        Args:
            node: the value.
            place: path to it.
            key: the nearest key above it; a list's items have the list's.
            scope: `config`, `shape` (below a key of shapes) or `call` (arguments of a call: magnitudes, no sizes).
        """
        if isinstance(node, dict):
            if "class_name" in node:
                self._object(node, place)
                scope = "config"
            for name, item in node.items():
                self._item(name, item, f"{place}/{name if _KEY.fullmatch(name) else clip(name)}", scope)
        elif isinstance(node, list):
            if scope == "shape" and not shape_fits([item for item in node if not isinstance(item, list)], self._limits):
                self.refuse("shape-too-large", place, "the shape has too many elements, or a dimension beyond 2^31.")
            for index, item in enumerate(node):
                self.value(item, f"{place}/{index}", key=key, scope=scope)
        elif isinstance(node, str):
            if len(node) > _MAX_TEXT_CHARS:
                self.refuse("text-too-long", place, f"a text of {len(node)} characters is not accepted.")
        elif isinstance(node, int | float) and scope == "config" and abs(node) > cap_of(key):
            self.refuse("number-too-large", place, f"{key} may be at most {cap_of(key)}, not {clip(node)}.")

    def totals(self) -> None:
        """Refuse what is too much only in sum."""
        limits = self._limits
        if self._n_layers > limits.max_layers:
            self.refuse("too-many-layers", "", f"{self._n_layers} layers; {limits.max_layers} are accepted.")
        widest = max((width_of(config) for _, _, config, _ in self._layers), default=1)
        n_parameters, growth = 0, 1
        for place, class_name, config, built in self._layers:
            n_parameters += parameters_of(class_name, config, built, widest=widest)
            growth = min(growth * growth_of(class_name, config), 2**63)
            if n_parameters > limits.max_parameters:
                self.refuse("too-many-parameters", place, f"up to here more than {limits.max_parameters} weights.")
                return
            if growth > limits.max_growth:
                self.refuse("growth-too-large", place, f"up to here inputs grow more than {limits.max_growth} times.")
                return

    def _item(self, name: str, item: JSON, place: str, scope: str) -> None:
        """Look at one entry of a mapping by its key's rules, then at what is below."""
        if name == "name" and isinstance(item, str) and (not _NAME.fullmatch(item) or ".." in item):
            self.refuse(
                "name", place, f"{clip(item)} is no name: letters, digits, _ . - and inner / or space, no '..'."
            )
        elif name in _VOCABULARY_KEYS and item is not None and not _is_flat_list(item):
            self.refuse("vocabulary", place, "a vocabulary must be written into the config as a list, never as a path.")
        elif name == "dtype" and isinstance(item, str) and item not in names.DTYPES:
            self.refuse("dtype", place, f"{clip(item)} is no accepted dtype.")
        elif name == "stateful" and item is not False:
            self.refuse(
                "stateful",
                place,
                "a layer with stateful=True keeps state between calls, so one request would see another's: "
                "build it with stateful=False and save the model again.",
            )
        if name == "inbound_nodes":
            scope = "call"
        elif name in SHAPE_KEYS:
            scope = "shape"
        self.value(item, place, key=name, scope=scope)

    def _object(self, node: dict[str, JSON], place: str) -> None:
        """Hold a mapping with `class_name` against the lists."""
        class_name, module, config = node["class_name"], node.get("module"), node.get("config")
        if not isinstance(class_name, str):
            self.refuse("class-malformed", place, "class_name must be a string.")
        elif class_name.startswith("__"):
            fault = form_fault(class_name, node, self._limits)
            if fault:
                self.refuse(fault[0], place, fault[1])
        elif not set(node) <= _OBJECT_KEYS:
            self.refuse(
                "class-malformed", place, f"unknown key {clip(min(set(node) - _OBJECT_KEYS))} beside class_name."
            )
        elif class_name == "function":
            self._function(node, place)
        else:
            self._class(class_name, module, place)
            self._registered(node, (class_name,), place)
            if not isinstance(config, dict):
                self.refuse("class-malformed", place, f"{clip(class_name)} has no config.")
            elif any(_is_listed(listed, module, class_name) for listed in _COUNTED):
                self._n_layers += 1
                self._layers.append((place, class_name, config, node.get("build_config")))
                self._unreached(config, place)

    def _unreached(self, config: dict[str, JSON], place: str) -> None:
        for index in unreached(config):
            self.refuse(
                "unreached-layer",
                f"{place}/config/layers/{index}",
                "no output depends on this layer; Keras does not write such a layer, so a second person looks at it.",
                severity="review",
            )

    def _class(self, class_name: str, module: JSON, place: str) -> None:
        if class_name in names.RUNS_CODE:
            self.refuse(
                "class-runs-code", place, f"{class_name} runs foreign code: build the model from layers of Keras only."
            )
        elif any(_is_listed(listed, module, class_name) for listed in (*_COUNTED, names.PARTS)):
            return
        elif not _is_listed(names.TRAINING, module, class_name):
            self.refuse("class-not-allowed", place, f"{clip(module)} {clip(class_name)} is not on the list of classes.")
        elif "/compile_config/" not in place:
            self.refuse("class-misplaced", place, f"{clip(class_name)} belongs into compile_config only.")

    def _function(self, node: dict[str, JSON], place: str) -> None:
        """Accept an activation, loss or metric of Keras by name; `builtins` is how Keras 3 before 3.9 wrote them."""
        module, name = node.get("module"), node.get("config")
        known = names.FUNCTIONS
        is_known = _is_listed(known, module, name) or (
            module == "builtins" and any(name in listed for listed in known.values() if isinstance(name, str))
        )
        if not is_known:
            self.refuse("function-not-allowed", place, f"{clip(module)} {clip(name)} is not on the list of functions.")
        self._registered(node, (name, "function"), place)

    def _registered(self, node: dict[str, JSON], accepted: tuple[JSON, ...], place: str) -> None:
        registered = node.get("registered_name")
        if registered is not None and registered not in accepted:
            self.refuse("registered-name", place, f"registered_name {clip(registered)} would name a custom object.")


def _is_flat_list(value: JSON) -> bool:
    return isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)
