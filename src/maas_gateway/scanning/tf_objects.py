"""The object graph of a SavedModel: which Python objects loading it makes, and which functions hang on them.

Rules:
    * Objects are those that `tf.saved_model.load` makes without help of a registered class: plain objects, lists and
      maps, signatures, functions, variables, constants and lookup tables. No assets, no classes by name, no savers of
      classes' own, no optimizers; an attribute may not be a special one of Python's, but `__call__`.
    * Every reference is to an object, and every function's name one of the object graph's, which the library holds.
    * What a function's specification holds is of plain kinds: no tensors (a few bytes of which can stand for gigabytes), no
      data sets, iterators or classes by name.

Source: tensorflow 2.21 core/protobuf/{saved_object_graph,struct}.proto; python/saved_model/load.py, `Loader`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.protobuf import Message
from maas_gateway.scanning.scanner import Refusal, clip
from maas_gateway.scanning.tf_values import entries, only_one_of, read_shape

_KINDS: Final = ("user_object", "function", "variable", "bare_concrete_function", "constant", "resource")
_REFUSED_KINDS: Final = ("asset", "captured_tensor")
_REGISTERED: Final = frozenset(("", "tf.StaticHashTable", "tf.TrackableConstant"))
_IDENTIFIERS: Final = re.compile(
    r"_generic_user_object|signature_map|trackable_(list|dict|tuple|mutable_mapping)_wrapper|_tf_keras_[a-z_]{1,40}"
)
_ATTRIBUTE: Final = re.compile(r"(?!__)[^\0]{1,512}|__call__", re.DOTALL)
_TYPE_SPECS: Final = frozenset((1, 2, 3, 4, 9, 10))
"""Sparse, indexed slices, ragged, tensor array, variable and row partition; see `TypeSpecProto.TypeSpecClass`."""

_MAX_OBJECTS: Final = 100_000
_STRUCTURES: Final = ("canonicalized_input_signature", "output_signature", "fullargspec", "input_signature")


@dataclass(frozen=True, slots=True)
class Objects:
    """What there is to know of an object graph.

    Attributes:
        functions: every concrete function that it names.
        signatures: concrete functions by the name of the signature.
    """

    functions: tuple[str, ...]
    signatures: dict[str, str]


def read_objects(message: Message) -> Objects:
    """Return what there is to know of a SavedObjectGraph.

    Raises:
        Refusal: it breaks a rule of this module.
    """
    functions = []
    for name, function in entries(message, "concrete_functions"):
        functions.append(name)
        _check_structures(function, f"function {clip(name)}")
    n_objects = message.count("nodes")
    if not 1 <= n_objects <= _MAX_OBJECTS:
        raise Refusal("objects", message.at, f"the object graph has {n_objects} objects.")
    reader = _ObjectReader(frozenset(functions), n_objects)
    objects = [reader.read(index, entry) for index, entry in enumerate(message.messages("nodes"))]
    maps = [objects[child] for name, child in objects[0].children if name == "signatures"]
    signatures = {name: objects[child].function for found in maps for name, child in found.children}
    return Objects(tuple(functions), signatures)


@dataclass(frozen=True, slots=True)
class _Object:
    """One object: its attributes, and the concrete function that it is, if it is one."""

    children: tuple[tuple[str, int], ...]
    function: str


class _ObjectReader:
    """Reads the objects of one graph."""

    def __init__(self, functions: frozenset[str], n_objects: int) -> None:
        self._functions = functions
        self._n_objects = n_objects

    def read(self, index: int, message: Message) -> _Object:
        """Return one SavedObject."""
        at = f"object {index}"
        kinds = [kind for kind in (*_KINDS, *_REFUSED_KINDS) if message.has(kind)]
        if len(kinds) > 1:
            raise Refusal("two-values", at, "the object is of several kinds at once.")
        if not kinds or kinds[0] in _REFUSED_KINDS:
            raise Refusal("object-kind", at, f"an object of kind {''.join(kinds) or 'none'} is not accepted.")
        if message.text("registered_name") not in _REGISTERED or message.has(
            "registered_saver", "serialized_user_proto"
        ):
            name = clip(message.text("registered_name") or message.text("registered_saver"))
            raise Refusal("registered-class", at, f"an object of the registered class {name} is not accepted.")
        children = tuple(self._references(message, at))
        kind = message.message(kinds[0])
        assert kind is not None
        named = [*kind.texts("concrete_functions")] if kinds[0] == "function" else []
        if kinds[0] == "bare_concrete_function":
            named = [kind.text("concrete_function_name")]
        for name in named:
            if name not in self._functions:
                raise Refusal("unknown-function", at, f"it names function {clip(name)}, which the object graph lacks.")
        self._check_kind(kinds[0], kind, at)
        return _Object(children, named[0] if kinds[0] == "bare_concrete_function" else "")

    def _references(self, message: Message, at: str) -> Iterator[tuple[str, int]]:
        """Yield the attributes, and check every other reference."""
        for field in ("children", "dependencies"):
            for entry in message.messages(field):
                name = entry.text("local_name")
                self._check_reference(entry.integer("node_id"), at)
                if not _ATTRIBUTE.fullmatch(name):
                    raise Refusal("attribute-name", at, f"an attribute named {clip(name)} is not accepted.")
                if field == "children":
                    yield name, entry.integer("node_id")
        for entry in message.messages("slot_variables"):
            raise Refusal("optimizer", entry.at, "an optimizer's variables are not accepted: export the model only.")
        for _, entry in entries(message, "saveable_objects"):
            self._check_reference(entry.integer("save_function"), at)
            self._check_reference(entry.integer("restore_function"), at)

    def _check_reference(self, index: int, at: str) -> None:
        if not 0 <= index < self._n_objects:
            raise Refusal("object-reference", at, f"it refers to object {index}, which is not there.")

    def _check_kind(self, kind: str, message: Message, at: str) -> None:
        if kind == "user_object" and not _IDENTIFIERS.fullmatch(message.text("identifier")):
            raise Refusal(
                "object-kind",
                at,
                f"an object of class {clip(message.text('identifier'))} is not accepted: export the model with "
                f"`model.export` or as a tf.Module.",
            )
        if kind == "variable":
            shape = message.message("shape")
            if shape is not None:
                read_shape(shape, at)
            if message.has("experimental_distributed_variable_components"):
                raise Refusal("object-kind", at, "a distributed variable is not accepted.")
        specification = message.message("function_spec") if kind in {"function", "bare_concrete_function"} else None
        if specification is not None:
            _check_structures(specification, at)


def _check_structures(message: Message, at: str) -> None:
    for field in _STRUCTURES:
        if message.has(field):
            structure = message.message(field)
            assert structure is not None
            _check_structure(structure, at)


def _check_structure(value: Message, at: str) -> None:
    """Refuse a StructuredValue that holds more than nested plain values; depth is bounded by the reader."""
    only_one_of(value, at)
    if value.has("tensor_value", "numpy_value"):
        raise Refusal("structure", at, "a tensor among the arguments of a function is not accepted.")
    for item in _nested(value):
        _check_structure(item, at)
    for specification in value.messages("type_spec_value"):
        _check_type(specification, at)
    for field in ("tensor_spec_value", "bounded_tensor_spec_value"):
        for specification in value.messages(field):
            _check_spec(specification, at)
    for shape in value.messages("tensor_shape_value"):
        read_shape(shape, at)


def _nested(value: Message) -> Iterator[Message]:
    """Yield the values that a list, tuple or map holds."""
    for field in ("list_value", "tuple_value"):
        for row in value.messages(field):
            yield from row.messages("values")
    for field, items in (("dict_value", "fields"), ("named_tuple_value", "values")):
        for row in value.messages(field):
            for _, item in entries(row, items):
                yield item


def _check_type(specification: Message, at: str) -> None:
    if specification.integer("type_spec_class") not in _TYPE_SPECS:
        kind = specification.text("type_spec_class_name")
        raise Refusal("structure", at, f"an argument of type {clip(kind)} is not accepted.")
    state = specification.message("type_state")
    if state is not None:
        _check_structure(state, at)


def _check_spec(specification: Message, at: str) -> None:
    if specification.has("minimum", "maximum"):
        raise Refusal("structure", at, "bounds of an argument are not accepted.")
    shape = specification.message("shape")
    if shape is not None:
        read_shape(shape, at)
