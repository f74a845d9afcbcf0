"""A whole `.keras` file: what it is at all, its container, its config, its vocabularies.

Rules:
    * A file of another format is refused with what to do instead (`formats`).
    * The container holds config.json, metadata.json and model.weights.h5 (`archives`), and under assets/ the
      vocabularies that the config needs (`keras_assets`), nothing else.
    * The config passes `keras_config`; model.weights.h5 begins like HDF5 and unpacks to what it declares.

What it does not look at: the inside of the HDF5 file. Only the confined child opens that.
"""

from collections.abc import Mapping
from typing import Final

from maas_gateway.scanning import keras_assets as assets
from maas_gateway.scanning.archives import Member, MemberLimit, read_member, read_members, stream_member
from maas_gateway.scanning.formats import foreign
from maas_gateway.scanning.keras_config import CONFIG, METADATA, scan_config, scan_metadata
from maas_gateway.scanning.keras_sizes import KerasLimits
from maas_gateway.scanning.scanner import Finding, Refusal, ScanReport, Source, report_of
from maas_gateway.scanning.strict_json import read_json

FORMAT: Final = "keras"
WEIGHTS: Final = "model.weights.h5"

_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_MIB: Final = 1024 * 1024
_MAX_ASSETS_BYTES: Final = 32 * _MIB


class KerasScanner:
    """Scans `.keras` archives.

    Protects against: code, file and network access and process-wide changes while the model is loaded; archives that
    unpack to more than they declare; two readings of one archive. Not against: faults of the HDF5 parser, and a model
    that was trained to answer wrongly.
    """

    def __init__(self, *, max_weights_bytes: int = 2048 * _MIB, limits: KerasLimits | None = None) -> None:
        self._limits = limits or KerasLimits()
        self._members = {
            CONFIG: MemberLimit(max_bytes=8 * _MIB, max_ratio=200.0),
            METADATA: MemberLimit(max_bytes=_MIB // 16, max_ratio=20.0),
            WEIGHTS: MemberLimit(max_bytes=max_weights_bytes, max_ratio=20.0),
        }

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as a `.keras` archive."""
        other = foreign(source, FORMAT)
        if other is not None:
            return report_of(FORMAT, [other])
        try:
            return report_of(FORMAT, self._scan(source))
        except Refusal as refusal:
            return report_of(FORMAT, [refusal.finding])

    def _scan(self, source: Source) -> list[Finding]:
        members = read_members(source, self._members, limit_of=assets.limit_of)
        config = read_member(source, members[CONFIG], self._members[CONFIG])
        metadata = read_member(source, members[METADATA], self._members[METADATA])
        head = b""
        for piece in stream_member(source, members[WEIGHTS], self._members[WEIGHTS]):
            head = head or piece[: len(_HDF5)]
        findings = scan_metadata(metadata) + scan_config(config, self._limits)
        if head != _HDF5:
            findings.append(Finding("weights-format", "refuse", WEIGHTS, "it is no HDF5 file."))
        texts = _read_assets(source, members)
        if texts:
            findings += assets.scan_vocabularies(read_json(config, where=CONFIG), texts)
        return findings


def _read_assets(source: Source, members: Mapping[str, Member]) -> dict[str, bytes]:
    """Return the members under assets/ by name."""
    limits = {name: limit for name in members if (limit := assets.limit_of(name)) is not None}
    if sum(members[name].size_bytes for name in limits) > _MAX_ASSETS_BYTES:
        raise Refusal("assets-too-large", "assets", f"all vocabularies may have {_MAX_ASSETS_BYTES} bytes together.")
    return {name: read_member(source, members[name], limit) for name, limit in limits.items()}
