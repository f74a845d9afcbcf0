"""Benign models pass: every layer and operation that Keras may save, and the architectures of `keras.applications`.

The architectures' configs are real; their weights are random in any case, so the archives hold none.
"""

import io
import re
import time
import zipfile
from pathlib import Path

import pytest

from builders.benign import built, small_archives
from maas_gateway.scanning import keras_names
from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.scanner import ScanReport
from unit.scanning.keras_files import InMemory, archive

_MAX_S = 1.0

SMALLEST = [
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
]
"""The smallest architecture of each family."""

_OTHERS = [
    "ConvNeXtSmall",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "MobileNetV3Large",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ConvNeXtBase",
    "EfficientNetV2L",
    "NASNetLarge",
    "VGG19",
]
"""All others below 300 MB, and four above."""


@pytest.fixture(scope="session")
def small_models(shared_folder: Path) -> dict[str, bytes]:
    """Every small model as Keras saved it, by what it shows."""
    return small_archives(shared_folder)


def _scan(raw: bytes) -> ScanReport:
    began = time.monotonic()
    report = KerasScanner().scan(InMemory(raw))
    assert time.monotonic() - began < 4 * _MAX_S  # with room for a machine that does other things too
    return report


@pytest.mark.thorough
def test_scan_accepts_every_layer_and_operation(small_models: dict[str, bytes]) -> None:
    refused = {name: _scan(raw).findings for name, raw in small_models.items()}
    assert {name: findings for name, findings in refused.items() if findings} == {}


@pytest.mark.thorough
def test_every_layer_and_operation_on_the_lists_is_in_a_benign_model(
    small_models: dict[str, bytes], shared_folder: Path
) -> None:
    """So that no name stands on a list that no file needs, and none is refused unnoticed."""
    seen: set[str] = set()
    configs = [_config(raw) for raw in small_models.values()]
    configs += [path.read_text() for path in built(shared_folder, "smallest", *SMALLEST).glob("*.json")]
    for config in configs:
        seen |= set(re.findall(r'"class_name": "(\w+)"', config))
    listed = set().union(*keras_names.LAYERS.values(), *keras_names.OPERATIONS.values())
    assert listed - seen == set()


def _config(raw: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(raw)) as members:
        return members.read("config.json").decode()


@pytest.mark.thorough
@pytest.mark.parametrize("name", SMALLEST)
def test_scan_accepts_the_smallest_architecture_of_a_family(shared_folder: Path, name: str) -> None:
    config = (built(shared_folder, "smallest", *SMALLEST) / f"{name}.json").read_bytes()
    assert _scan(archive(config)).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", _OTHERS)
def test_scan_accepts_the_other_architectures(shared_folder: Path, name: str) -> None:
    config = (built(shared_folder, "others", *_OTHERS) / f"{name}.json").read_bytes()
    assert _scan(archive(config)).findings == ()
