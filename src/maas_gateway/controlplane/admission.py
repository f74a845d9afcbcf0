"""The acts about what may be served at all, built together: release, delete, rescan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.delete import Delete
from maas_gateway.controlplane.erase import Stores
from maas_gateway.controlplane.operate import Operate
from maas_gateway.controlplane.quarantine import Quarantine
from maas_gateway.controlplane.rescan import Rescan
from maas_gateway.scanning.scanner import Scanner


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides about versions that are stored.

    Attributes:
        quarantine: the way out of quarantine.
        delete: throwing away.
        rescan: looking again.
    """

    quarantine: Quarantine
    delete: Delete
    rescan: Rescan

    @classmethod
    def of(
        cls,
        acting: Acting,
        stores: Stores,
        operate: Operate,
        scanners: Mapping[str, Scanner],
    ) -> Self:
        """Build them.

        Args:
            acting: what every act needs.
            stores: where sealed blobs and their keys lie, and what signs manifests.
            operate: runs long acts.
            scanners: who looks at a sealed form, by its role.
        """
        return cls(
            Quarantine(acting, stores.artifacts, stores.statements),
            Delete(acting, stores.artifacts, stores.data_keys),
            Rescan(acting, stores.artifacts, stores.statements, operate, scanners=scanners),
        )
