"""Which scanner looks at what: uploads by their format, plans by the runtime that would serve them.

A form is added here and in its own module, and nowhere else.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.scanning.frozen_graph import FrozenGraphScanner
from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.keras_rebuilt import RebuiltKerasScanner
from maas_gateway.scanning.onnx_graph import ONNXScanner
from maas_gateway.scanning.onnx_rebuild import rebuild as rebuild_onnx
from maas_gateway.scanning.saved_model import SavedModelScanner
from maas_gateway.scanning.scanner import Scanner, Source
from maas_gateway.scanning.tflite_graph import TFLiteScanner
from maas_gateway.scanning.tflite_rebuild import rebuild as rebuild_tflite

UPLOADS: Final[Mapping[str, Scanner]] = MappingProxyType(
    {"keras": KerasScanner(), "savedmodel": SavedModelScanner(), "tflite": TFLiteScanner(), "onnx": ONNXScanner()}
)
"""By the name that the publisher gives a format."""

_ONNX: Final = ONNXScanner()

PLANS: Final[Mapping[str, Scanner]] = MappingProxyType(
    {
        "litert": TFLiteScanner(),
        "onnx": _ONNX,
        "openvino": _ONNX,
        "keras": RebuiltKerasScanner(),
        "tensorflow": FrozenGraphScanner(),
    }
)
"""By runtime."""

SEALED: Final[Mapping[str, Scanner]] = MappingProxyType({**PLANS, "source": KerasScanner()})
"""By the role of a sealed artifact; of old versions the upload itself is sealed too, and it is Keras's."""

REBUILDERS: Final[Mapping[str, Callable[[Source], Iterator[bytes]]]] = MappingProxyType(
    {"tflite": rebuild_tflite, "onnx": rebuild_onnx}
)
"""By format: what writes an upload anew from what was understood of it, once its scan was clean."""
