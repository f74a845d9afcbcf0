"""Lookup tables of a frozen graph, written as plain operators: no resource, no state, nothing to initialise.

A table of n keys becomes three constants: the keys' places in order (the keys themselves where they are integers, their
64-bit fingerprints where they are texts), the keys and the values in that order. A lookup searches its place by
bisection, compares the key that stands there, and takes the value or the default: log2(n) steps a key, as many bytes as
the table has.

Rules: keys are int32, int64 or text; two keys of one table do not share a fingerprint (of n texts that happens with
probability n**2 / 2**65; such a table is refused); a table is reached from the graph itself, not from inside a loop.

Source: tensorflow 2.21, `LookupTableFindV2`; FarmHash Fingerprint64 behind `StringToHashBucketFast`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from maas_gateway.inference.conversion.refusal import NotConvertible

if TYPE_CHECKING:
    import tensorflow as tf

_FIND: Final = "LookupTableFindV2"
_SIZE: Final = "LookupTableSizeV2"
_BUCKETS: Final = (1 << 63) - 1


def replace_lookups(graph_def: Any, tables: Mapping[str, "tf.Tensor"]) -> None:
    """Write every lookup of the graph as a call of a function of plain operators.

    Args:
        graph_def: a GraphDef; changed in place. Its placeholders of the tables stay, unused.
        tables: the loaded tables' handles by the name of the placeholder.

    Raises:
        NotConvertible: a table is of a kind that cannot be written so, or used where it cannot be.
    """
    # imported where it runs: TensorFlow is loaded in the confined child only
    from tensorflow.raw_ops import LookupTableSizeV2

    nodes = {node.name: node for node in graph_def.node}
    functions: dict[str, str] = {}
    for node in graph_def.node:
        if node.op not in {_FIND, _SIZE}:
            continue
        table = _placeholder_of(node.input[0], nodes)
        if table not in tables:
            raise NotConvertible("a lookup table is used in a way that cannot be frozen")
        if node.op == _SIZE:
            _become_constant(node, LookupTableSizeV2(table_handle=tables[table]).numpy())
            continue
        if table not in functions:
            found = _finder(tables[table], node.attr["Tin"].type, node.attr["Tout"].type)
            graph_def.library.function.append(found)
            functions[table] = found.signature.name
        _become_call(node, functions[table])


def _placeholder_of(name: str, nodes: Mapping[str, Any]) -> str:
    """Return the node that a handle comes from, through identities."""
    node = nodes.get(name.partition(":")[0])
    while node is not None and node.op == "Identity":
        node = nodes.get(node.input[0].partition(":")[0])
    return "" if node is None else str(node.name)


def _become_constant(node: Any, value: NDArray[np.int64]) -> None:
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    del node.input[:]
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = tf.int64.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _become_call(node: Any, function: str) -> None:
    """Make a lookup a call with its keys and its default."""
    inputs, types = list(node.input), (node.attr["Tin"].type, node.attr["Tout"].type)
    del node.input[:]
    node.input.extend(inputs[1:])
    node.op = "PartitionedCall"
    node.attr.clear()
    node.attr["Tin"].list.type.extend(types)
    node.attr["Tout"].list.type.append(types[1])
    node.attr["f"].func.name = function


def _finder(handle: "tf.Tensor", keys_type: int, values_type: int) -> Any:
    """Return the FunctionDef that looks keys up in what the table holds now."""
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf
    from tensorflow.raw_ops import LookupTableExportV2

    exported = LookupTableExportV2(table_handle=handle, Tkeys=keys_type, Tvalues=values_type)
    keys, values = exported.keys.numpy(), exported.values.numpy()
    if keys.ndim != 1 or values.ndim != 1:
        raise NotConvertible("a lookup table of more than single keys and values cannot be frozen")
    places = _places(tf.constant(keys)).numpy()
    order = np.argsort(places, kind="stable")
    places, keys, values = places[order], keys[order], values[order]
    if np.any(places[1:] == places[:-1]):
        raise NotConvertible("a lookup table holds two keys of one fingerprint")

    def find(wanted: "tf.Tensor", default: "tf.Tensor") -> "tf.Tensor":
        if not len(keys):
            return tf.fill(tf.shape(wanted), default)
        flat = tf.reshape(wanted, [-1])
        place = tf.minimum(tf.searchsorted(places, _places(flat)), len(keys) - 1)
        is_there = tf.equal(tf.gather(tf.constant(keys), place), flat)
        found = tf.where(is_there, tf.gather(tf.constant(values), place), default)
        return tf.reshape(found, tf.shape(wanted))

    specs = [tf.TensorSpec(None, tf.as_dtype(kind)) for kind in (keys_type, values_type)]
    return tf.function(find, autograph=False, input_signature=specs).get_concrete_function().function_def


def _places(keys: "tf.Tensor") -> "tf.Tensor":
    """Return the numbers by which keys are put in order."""
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    if keys.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(keys, _BUCKETS)
    if not keys.dtype.is_integer:
        raise NotConvertible(f"a lookup table with keys of type {keys.dtype.name} cannot be frozen")
    return tf.cast(keys, tf.int64)
