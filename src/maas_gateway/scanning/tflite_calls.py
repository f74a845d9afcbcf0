"""How the subgraphs of a TensorFlow Lite model call each other.

Rules:
    * Only IF and WHILE call, with options of their kind that name two subgraphs that are there, never the first.
    * No subgraph calls itself, over others neither; written out, there are at most 10,000 calls.
    * What is given to a subgraph and taken from it fits in number and type: a condition is one BOOL, a loop's body
      gives what it takes.
    * Every subgraph but the first is called.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from maas_gateway.scanning.flatbuffer import Table
from maas_gateway.scanning.tflite_operators import CONTROL_FLOW, IF, WHILE
from maas_gateway.scanning.tflite_subgraph import Fault, Subgraph, builtin_of

_BOOL: Final = 6
_MAX_CALLS: Final = 10_000
_OPTIONS: Final = {
    IF: (92, ("then_subgraph_index", "else_subgraph_index")),
    WHILE: (93, ("cond_subgraph_index", "body_subgraph_index")),
}
_NONE: Final = (-1, -1)

Types = tuple[int | None, ...]


def call_faults(subgraphs: Sequence[Subgraph], codes: Sequence[Table]) -> Iterator[Fault]:
    """Yield what is wrong with the calls between subgraphs."""
    is_sound = True
    for caller in subgraphs:
        for operator, number in _calls(caller, codes):
            targets = _targets(operator, number)
            if any(not 0 < target < len(subgraphs) for target in targets):
                yield "subgraph-index", operator.at, f"{CONTROL_FLOW[number]} names a subgraph that it cannot call."
                is_sound = False
            else:
                first, second = (subgraphs[target] for target in targets)
                yield from _fit_faults(operator, number, partial(_types, caller), (first, second))
    if is_sound and _n_calls(subgraphs, codes) > _MAX_CALLS:
        where = subgraphs[0].graph.at
        yield "recursion", where, f"subgraphs call each other in a circle, or more than {_MAX_CALLS} times."


def is_called(subgraphs: Sequence[Subgraph], codes: Sequence[Table]) -> list[bool]:
    """Return for each subgraph whether it is the first or any names it."""
    named = {0}
    for caller in subgraphs:
        for operator, number in _calls(caller, codes):
            named.update(_targets(operator, number))
    return [index in named for index in range(len(subgraphs))]


def _calls(caller: Subgraph, codes: Sequence[Table]) -> Iterator[tuple[Table, int]]:
    for operator in caller.graph.tables("operators"):
        index = operator.integer("opcode_index")
        number = builtin_of(codes[index]) if index < len(codes) else -1
        if number in CONTROL_FLOW:
            yield operator, number


def _targets(operator: Table, number: int) -> tuple[int, int]:
    kind, (first, second) = _OPTIONS[number]
    options = operator.table("builtin_options")
    if options is None or operator.integer("builtin_options_type") != kind:
        return _NONE
    return options.integer(first), options.integer(second)


def _n_calls(subgraphs: Sequence[Subgraph], codes: Sequence[Table]) -> int:
    """Return how many calls there are from the first subgraph on, more than `_MAX_CALLS` for a circle."""
    callees = [[t for call in _calls(caller, codes) for t in _targets(*call)] for caller in subgraphs]
    # A circle keeps growing: after as many rounds as there are subgraphs, only circles still change.
    counts = [0] * len(subgraphs)
    for _ in range(len(subgraphs) + 1):
        grown = [min(sum(1 + counts[target] for target in each), _MAX_CALLS + 1) for each in callees]
        if grown == counts:
            return counts[0]
        counts = grown
    return _MAX_CALLS + 1


def _types(subgraph: Subgraph, indices: Sequence[int]) -> Types:
    return tuple(subgraph.type_of(index) for index in indices)


def _fit_faults(
    operator: Table, number: int, types_of: "partial[Types]", called: tuple[Subgraph, Subgraph]
) -> Iterator[Fault]:
    """Check what goes in and out of the subgraphs that one operator calls."""
    given, made = types_of(operator.numbers("inputs")), types_of(operator.numbers("outputs"))
    first_in, first_out = _ends(called[0])
    second_in, second_out = _ends(called[1])
    if number == WHILE:
        fits = given == made == first_in == second_in == second_out and first_out == (_BOOL,)
    else:
        fits = given[:1] == (_BOOL,) and given[1:] == first_in == second_in and made == first_out == second_out
    if not fits or None in given:
        yield "call", operator.at, f"what {CONTROL_FLOW[number]} gives and takes does not fit the subgraphs it calls."


def _ends(subgraph: Subgraph) -> tuple[Types, Types]:
    return _types(subgraph, subgraph.graph.numbers("inputs")), _types(subgraph, subgraph.graph.numbers("outputs"))
