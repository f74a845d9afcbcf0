"""What a request wants back: which outputs, and each as JSON, as raw bytes or as its best classes.

Rules: `outputs` absent or empty asks for all; an output's own `binary_data` goes before the request's
`binary_data_output`; an output is asked for once. What is not offered (shared memory) is refused.

Source: Open Inference Protocol, "Request Output"; NVIDIA Triton, "Binary Tensor Data Extension",
"Classification Extension".
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from maas_gateway.errors import MalformedBody, SignatureMismatch, Unsupported
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.tensors.values import quoted

_MAX_CLASSES: Final = 2**31 - 1


class OutputForm(NamedTuple):
    """How one output is wanted.

    Attributes:
        is_binary: as raw bytes; None where the request as a whole decides.
        n_classes: its best classes in place of its values; 0 for the values.
    """

    is_binary: bool | None = None
    n_classes: int = 0


class AnswerForm(NamedTuple):
    """How an answer is wanted.

    Attributes:
        is_binary: whether outputs come as raw bytes unless they say otherwise.
        outputs: those that say something themselves, by name.
    """

    is_binary: bool = False
    outputs: Mapping[str, OutputForm] = MappingProxyType({})

    @property
    def is_plain(self) -> bool:
        """Whether all outputs come as JSON and as they are."""
        return not self.is_binary and not self.outputs

    def of(self, name: str) -> OutputForm:
        """Return how an output is wanted, with `is_binary` decided."""
        own = self.outputs.get(name, OutputForm())
        return own if own.is_binary is not None else own._replace(is_binary=self.is_binary)


PLAIN: Final = AnswerForm()


def read_outputs(
    entries: object, signature: ModelSignature, model: str
) -> tuple[tuple[str, ...], Mapping[str, OutputForm]]:
    """Return the names of the outputs asked for, and how those are wanted that say so.

    Args:
        entries: what the request has as `outputs`.
        signature: of the version that will answer.
        model: its name, for sentences.

    Raises:
        MalformedBody: it is no list of objects with a name each.
        SignatureMismatch: the model has no such output, or it is asked for twice.
        Unsupported: it is wanted in shared memory.
    """
    if not isinstance(entries, list):
        raise MalformedBody("'outputs' must be a list of objects")
    known = {spec.name for spec in signature.outputs}
    names: dict[str, None] = {}
    forms: dict[str, OutputForm] = {}
    for position, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise MalformedBody(f"outputs[{position}] must be an Object whose 'name' is a string")
        if name not in known:
            raise SignatureMismatch(
                f"unexpected inference output {quoted(name)} for model '{model}'; its outputs are: {', '.join(sorted(known))}"
            )
        if name in names:
            raise SignatureMismatch(f"output '{name}' is asked for twice")
        if "parameters" in entry:
            forms[name] = _read_form(entry["parameters"], name)
        names[name] = None
    return tuple(names), forms


def _read_form(parameters: object, name: str) -> OutputForm:
    if not isinstance(parameters, dict):
        raise MalformedBody(f"output '{name}': 'parameters' must be an Object")
    if parameters.get("shared_memory_region"):
        raise Unsupported(f"output '{name}': this server has no shared memory with its clients")
    is_binary, n_classes = parameters.get("binary_data"), parameters.get("classification", 0)
    if not (is_binary is None or isinstance(is_binary, bool)):
        raise MalformedBody(f"output '{name}': 'binary_data' must be true or false")
    if type(n_classes) is not int or not 0 <= n_classes <= _MAX_CLASSES:
        raise MalformedBody(f"output '{name}': 'classification' must be a number of classes")
    return OutputForm(is_binary, n_classes)
