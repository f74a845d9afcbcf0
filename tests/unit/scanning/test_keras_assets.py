"""Vocabularies beside the config: those that a lookup layer needs pass, everything else there is refused."""

from typing import Any

import pytest

from maas_gateway.scanning import keras_assets
from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.keras_assets import lookups, scan_vocabularies, with_vocabularies
from maas_gateway.scanning.scanner import ScanReport
from unit.scanning.keras_files import Config, InMemory, archive, dense, layer, sequential

_WORDS = "assets/layers/string_lookup/vocabulary.txt"
_NUMBERS = "assets/layers/integer_lookup/vocabulary.txt"


def _archive(config: Config, **texts: bytes) -> bytes:
    return archive(config, **{name.replace(".", "__"): text for name, text in texts.items()})


def _scan(config: Config, texts: dict[str, bytes]) -> ScanReport:
    return KerasScanner().scan(InMemory(_archive(config, **texts)))


def _nested() -> Config:
    inner = sequential(layer("StringLookup", vocabulary=None), layer("StringLookup", vocabulary=None))
    return sequential(
        layer("IntegerLookup", vocabulary=None, output_mode="tf_idf"),
        layer("StringLookup", vocabulary=["given"]),
        layer("StringLookup", module="keras.src.ops.numpy"),
        layer("StringLookup", vocabulary=None),
        layer("TextVectorization", vocabulary=None),
        layer("TimeDistributed", layer=layer("StringLookup", vocabulary=None)),
        inner,
    )


def test_lookups_are_looked_for_where_keras_keeps_them() -> None:
    """Numbers count layers of one class in one model, also those that keep their vocabulary elsewhere."""
    assert {name: lookup.place for name, lookup in lookups(_nested()).items()} == {
        _NUMBERS: "/config/layers/1",
        "assets/layers/string_lookup_1/vocabulary.txt": "/config/layers/4",
        "assets/layers/text_vectorization/vocabulary.txt": "/config/layers/5",
        "assets/layers/text_vectorization/_lookup_layer/vocabulary.txt": "/config/layers/5",
        "assets/layers/sequential/layers/string_lookup/vocabulary.txt": "/config/layers/7/config/layers/1",
        "assets/layers/sequential/layers/string_lookup_1/vocabulary.txt": "/config/layers/7/config/layers/2",
    }


_STRINGS = sequential(layer("StringLookup", vocabulary=None))
_INTEGERS = sequential(layer("IntegerLookup", vocabulary=None))
_TEXTS = sequential(layer("TextVectorization", vocabulary=None))
_TEXT = "assets/layers/text_vectorization/vocabulary.txt"
_TEXT_INNER = "assets/layers/text_vectorization/_lookup_layer/vocabulary.txt"


@pytest.mark.parametrize(
    ("config", "texts"),
    [
        pytest.param(_STRINGS, {_WORDS: "[UNK]\nü b\n\tc".encode()}, id="words"),
        pytest.param(_STRINGS, {_WORDS: b"[UNK]\r\na\r\n"}, id="line ends of Windows"),
        pytest.param(_STRINGS, {_WORDS: b""}, id="no token"),
        pytest.param(_STRINGS, {}, id="nothing adapted yet"),
        pytest.param(_INTEGERS, {_NUMBERS: b"-1\n9223372036854775807"}, id="integers"),
        pytest.param(_TEXTS, {_TEXT: b"\n[UNK]\na", _TEXT_INNER: b"\n[UNK]\na"}, id="a vocabulary written twice"),
    ],
)
def test_scan_accepts_a_vocabulary_that_a_layer_needs(config: Config, texts: dict[str, bytes]) -> None:
    assert _scan(config, texts).findings == ()


@pytest.mark.parametrize(
    ("config", "texts", "rule", "place"),
    [
        pytest.param(sequential(dense()), {_WORDS: b"a"}, "asset-not-needed", _WORDS, id="nobody needs it"),
        pytest.param(
            sequential(layer("StringLookup", vocabulary=["a"])), {_WORDS: b"b"}, "asset-not-needed", _WORDS,
            id="the config has a vocabulary already",
        ),
        pytest.param(
            _STRINGS, {"assets/layers/string_lookup_1/vocabulary.txt": b"a"}, "asset-not-needed",
            "assets/layers/string_lookup_1/vocabulary.txt", id="of a layer that there is not",
        ),
        pytest.param(_STRINGS, {"assets/x.bin": b"a"}, "unexpected-member", "'assets/x.bin'", id="another file"),
        pytest.param(
            _STRINGS, {"assets/../vocabulary.txt": b"a"}, "member-name", "'assets/../vocabulary.txt'", id="traversal",
        ),
        pytest.param(_STRINGS, {_WORDS: b"\xff"}, "vocabulary-encoding", _WORDS, id="bytes that are no text"),
        pytest.param(_STRINGS, {_WORDS: b"a\nb\0c"}, "vocabulary-line", f"{_WORDS}: line 2", id="a zero byte"),
        pytest.param(_STRINGS, {_WORDS: b"a\rb"}, "vocabulary-line", f"{_WORDS}: line 1", id="a line end of its own"),
        pytest.param(
            _STRINGS, {_WORDS: "a\u2028b".encode()}, "vocabulary-line", f"{_WORDS}: line 1", id="a line separator",
        ),
        pytest.param(_STRINGS, {_WORDS: b"a" * 1001}, "vocabulary-line", f"{_WORDS}: line 1", id="a long token"),
        pytest.param(_INTEGERS, {_NUMBERS: b"1\nx"}, "vocabulary-line", f"{_NUMBERS}: line 2", id="no integer"),
        pytest.param(_INTEGERS, {_NUMBERS: b"9" * 19}, "vocabulary-line", f"{_NUMBERS}: line 1", id="65 bits"),
        pytest.param(
            _TEXTS, {_TEXT: b"a", _TEXT_INNER: b"b"}, "vocabulary-differs", _TEXT_INNER, id="two that differ",
        ),
        pytest.param(_STRINGS, {_WORDS: bytes(33 << 20)}, "member-too-large", "assets", id="33 MiB"),
    ],
)  # fmt: skip
def test_scan_refuses_what_is_no_vocabulary(config: Config, texts: dict[str, bytes], rule: str, place: str) -> None:
    (finding,) = _scan(config, texts).findings
    assert (finding.rule, finding.severity) == (rule, "refuse")
    assert finding.where.strip("'").startswith(place.strip("'"))


def test_scan_refuses_vocabularies_that_are_too_large_together() -> None:
    config = sequential(*[layer("StringLookup", vocabulary=None)] * 2)
    texts = {_WORDS: b"a\n" * (9 << 20), _WORDS.replace("lookup", "lookup_1"): b"a\n" * (9 << 20)}
    assert [finding.rule for finding in _scan(config, texts).findings] == ["assets-too-large"]


def test_a_vocabulary_beyond_all_usual_sizes_asks_a_person() -> None:
    tokens = b"\n".join(b"%d" % n for n in range(keras_assets.MANY_TOKENS + 1))
    (finding,) = scan_vocabularies(_STRINGS, {_WORDS: tokens})
    assert (finding.rule, finding.severity, finding.where) == ("vocabulary-large", "review", _WORDS)
    assert scan_vocabularies(_STRINGS, {_WORDS: tokens[: tokens.rindex(b"\n")]}) == []


def test_with_vocabularies_writes_them_into_the_config() -> None:
    config: Any = _nested()
    texts = {_NUMBERS: b"-1\n7\n", "assets/layers/sequential/layers/string_lookup_1/vocabulary.txt": b"\n[UNK]\nx"}
    with_vocabularies(config, texts, lambda path: [float(len(path))])
    layers = config["config"]["layers"]
    assert (layers[1]["config"]["vocabulary"], layers[1]["config"]["idf_weights"]) == ([-1, 7], [21.0])
    assert layers[7]["config"]["layers"][2]["config"]["vocabulary"] == ["", "[UNK]", "x"]
    assert layers[4]["config"]["vocabulary"] is None


@pytest.mark.parametrize(
    "node",
    [
        None,
        [],
        {},
        {"config": {"layers": [1, {}, {"class_name": 2}]}},
        {"config": 3},
        {"config": {"layers": [{"class_name": "StringLookup", "module": {}, "config": []}]}},
    ],
)
def test_lookups_never_raise(node: Any) -> None:
    assert lookups(node) == {}
