"""Vocabularies that Keras keeps beside the config, under assets/: which members there may be, and what stands in them.

Rules (security.md 2.3, item 1):
    * A member under assets/ is the vocabulary of one lookup layer of the config, at the place where Keras looks for
      that layer's assets; the layer has no vocabulary in the config. Every other member there is refused.
    * A layer inside a wrapper (TimeDistributed, Pipeline) has its vocabulary in the config, or none.
    * UTF-8 text, one token a line: no control character and no second kind of line end (Keras would read another number
      of lines), at most `MAX_TOKEN_CHARS` a line; integers where the layer looks up integers.
    * Where Keras writes a vocabulary twice (TextVectorization and the lookup inside it), both are equal.
    * More than `MANY_TOKENS` tokens ask for a person: no usual vocabulary is as large, and a list of people may be.

`with_vocabularies` puts the tokens into the config, so that what is rebuilt needs no assets at all.

Source: keras 3.15.1, keras/src/saving/saving_lib.py (`_save_state`, `_save_container_state`),
keras/src/utils/naming.py (`to_snake_case`), keras/src/layers/preprocessing/index_lookup.py (`save_assets`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning import keras_names as names
from maas_gateway.scanning.archives import MemberLimit
from maas_gateway.scanning.scanner import Finding, Refusal, clip
from maas_gateway.scanning.strict_json import JSON

MANY_TOKENS: Final = 2**18
"""Large vocabularies of published language models have about this many."""
MAX_TOKEN_CHARS: Final = 1_000

_MIB: Final = 1 << 20
_LIMIT: Final = MemberLimit(max_bytes=32 * _MIB, max_ratio=200.0)
_MEMBER: Final = re.compile(r"assets(?:/[a-z0-9_]{1,128}){1,64}/vocabulary\.txt")
_LOOKUPS: Final = frozenset(["StringLookup", "IntegerLookup", "TextVectorization"])
_INNER: Final = "_lookup_layer"
# What str.splitlines takes for the end of a line, and other control characters but tabulators.
_STRANGE: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|\r(?!\n)")
_INTEGER: Final = re.compile(r"-?\d{1,19}")


@dataclass(frozen=True, slots=True)
class Lookup:
    """A layer of the config whose vocabulary is looked for under assets/.

    Attributes:
        place: of the layer in config.json.
        config: the layer's own config, a part of the parsed tree.
        path: where Keras keeps the layer's state: `layers/string_lookup_1`.
        holds_integers: whether its tokens are integers.
        is_weighted: whether its config needs the tokens' weights too (`output_mode` tf_idf).
    """

    place: str
    config: dict[str, JSON]
    path: str
    holds_integers: bool
    is_weighted: bool

    def members(self, class_name: str) -> tuple[str, ...]:
        """Return the names of the members that Keras writes for it."""
        own = f"assets/{self.path}/vocabulary.txt"
        inner = f"assets/{self.path}/{_INNER}/vocabulary.txt"
        return (own, inner) if class_name == "TextVectorization" else (own,)


def limit_of(name: str) -> MemberLimit | None:
    """Return how large a member under assets/ may be; None for a name that no vocabulary has."""
    return _LIMIT if _MEMBER.fullmatch(name) else None


def scan_vocabularies(config: JSON, texts: Mapping[str, bytes]) -> list[Finding]:
    """Return what there is to say about the members under assets/.

    Args:
        config: the parsed config.json.
        texts: each member's bytes by its name.
    """
    expected = lookups(config)
    findings: list[Finding] = []
    for name, raw in texts.items():
        lookup = expected.get(name)
        if lookup is None:
            findings.append(
                Finding("asset-not-needed", "refuse", name, "no lookup layer of the config has its vocabulary here.")
            )
            continue
        try:
            tokens = read_tokens(raw, name, holds_integers=lookup.holds_integers)
        except Refusal as refusal:
            findings.append(refusal.finding)
            continue
        findings += _about(name, raw, tokens, texts)
    return findings


def _about(name: str, raw: bytes, tokens: list[JSON], texts: Mapping[str, bytes]) -> Iterator[Finding]:
    twin = name.replace(f"/{_INNER}/", "/")
    if texts.get(twin, raw) != raw:
        yield Finding("vocabulary-differs", "refuse", name, f"it differs from {twin}: which one counts is unclear.")
    if len(tokens) > MANY_TOKENS:
        yield Finding(
            "vocabulary-large",
            "review",
            name,
            f"{len(tokens)} tokens are unusually many: a second person looks whether they may be published.",
        )


def lookups(config: JSON) -> dict[str, Lookup]:
    """Return the lookup layers without a vocabulary of their own, by the members where Keras keeps it."""
    found: dict[str, Lookup] = {}
    for class_name, lookup in _lookups(config, "", ""):
        for member in lookup.members(class_name):
            found[member] = lookup
    return found


def with_vocabularies(
    config: JSON, texts: Mapping[str, bytes], weights_of: Callable[[str], list[float]] | None = None
) -> None:
    """Write the vocabularies into the parsed config, in place; it then needs no assets.

    Args:
        config: a config that `scan_vocabularies` has nothing to refuse about, with the same `texts`.
        texts: each member's bytes by its name.
        weights_of: returns the weights of a layer's tokens, by the path of its state; asked only for layers whose
            tokens are weighted.

    Raises:
        Refusal: a vocabulary cannot be read.
    """
    for member, lookup in lookups(config).items():
        if member in texts:
            lookup.config["vocabulary"] = read_tokens(texts[member], member, holds_integers=lookup.holds_integers)
            if lookup.is_weighted and weights_of is not None:
                lookup.config["idf_weights"] = list[JSON](weights_of(lookup.path))


def read_tokens(raw: bytes, where: str, *, holds_integers: bool) -> list[JSON]:
    """Return a vocabulary's tokens as Keras reads them: without empty lines at the end.

    Raises:
        Refusal: it breaks a rule of this module.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise Refusal("vocabulary-encoding", where, "it is not UTF-8 text.") from cause
    strange = _STRANGE.search(text)
    if strange:
        at_line = text.count("\n", 0, strange.start()) + 1
        raise Refusal("vocabulary-line", f"{where}: line {at_line}", f"a token holds {clip(strange[0])}.")
    lines = text.splitlines()
    while lines and not lines[-1]:
        lines.pop()
    tokens: list[JSON] = []
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_TOKEN_CHARS:
            raise Refusal("vocabulary-line", f"{where}: line {number}", f"a token of {len(line)} characters.")
        if holds_integers and not (_INTEGER.fullmatch(line) and -(2**63) <= int(line) < 2**63):
            raise Refusal("vocabulary-line", f"{where}: line {number}", f"{clip(line)} is no integer of 64 bits.")
        tokens.append(int(line) if holds_integers else line)
    return tokens


def _lookups(node: JSON, path: str, place: str) -> Iterator[tuple[str, Lookup]]:
    """Yield the lookup layers of a model and of the models in it, as Keras walks them."""
    config = node.get("config") if isinstance(node, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(layers, list):
        return
    taken: Counter[str] = Counter()
    for index, layer in enumerate(layers):
        class_name = layer.get("class_name") if isinstance(layer, dict) else None
        if (
            not isinstance(layer, dict)
            or not isinstance(class_name, str)
            or str(layer.get("module")) in names.OPERATIONS
        ):
            continue
        kind = snake_case(class_name)
        number, taken[kind] = taken[kind], taken[kind] + 1
        inner = f"{path}/layers/{kind}_{number}" if number else f"{path}/layers/{kind}"
        where = f"{place}/config/layers/{index}"
        if any(class_name in listed for listed in names.MODELS.values()):
            yield from _lookups(layer, inner, where)
        lookup = _lookup(layer, class_name, inner.lstrip("/"), where)
        if lookup is not None:
            yield class_name, lookup


def _lookup(layer: dict[str, JSON], class_name: str, path: str, place: str) -> Lookup | None:
    config = layer.get("config")
    if class_name not in _LOOKUPS or not isinstance(config, dict) or config.get("vocabulary") is not None:
        return None
    holds_integers = class_name == "IntegerLookup" and config.get("vocabulary_dtype", "int64") != "string"
    return Lookup(place, config, path, holds_integers, config.get("output_mode") == "tf_idf")


def snake_case(class_name: str) -> str:
    """Return a class's name as Keras writes it in paths.

    Source: keras 3.15.1, keras/src/utils/naming.py, `to_snake_case`.
    """
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
