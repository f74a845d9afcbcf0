"""Which scanner looks at what: an upload by its format, a stored form by its role."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.scanner import Scanner
from maas_gateway.scanning.tflite_graph import TFLiteScanner

SCANNERS_BY_FORMAT: Final[Mapping[str, Scanner]] = MappingProxyType(
    {"keras": KerasScanner(), "tflite": TFLiteScanner()}
)
SCANNERS_BY_ROLE: Final[Mapping[str, Scanner]] = MappingProxyType({"source": KerasScanner(), "litert": TFLiteScanner()})
