"""How much a tenant may store: bytes of sealed models, and versions.

Rules: counted in the transaction that writes a version, one such transaction of a tenant at a time, so that no two
uploads share the last place; looked at before the body is read too, where that can tell already: there is no place at
all, or not for an eighth of the declared length, because what is sealed is seldom so much smaller (a training
optimizer's state, which is not sealed, makes it a third). What is quarantined or retired counts; what is deleted does
not.
"""

from dataclasses import dataclass
from typing import Final

from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import StorageFull
from maas_gateway.identifiers import ModelRef, TenantId
from maas_gateway.registry import store
from maas_gateway.registry.model import ModelVersion

_SHRINKS_TO: Final = 8


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """What every tenant may store.

    Attributes:
        max_bytes: of sealed models, together.
        max_versions: of all models, together.
    """

    max_bytes: int
    max_versions: int

    async def foresee(self, database: Database, tenant: TenantId, ref: ModelRef, declared_bytes: int | None) -> None:
        """Refuse an upload that has no place, before its body is read; one whose number is taken needs none.

        Args:
            database: the main database.
            tenant: whose.
            ref: the version that it is to become.
            declared_bytes: its length if the caller declared it.

        Raises:
            StorageFull: there is none.
        """
        async with database.read(tenant) as session:
            model = await store.model(session, ref.name)
            if model is not None and any(version.version == ref.version for version in model.versions):
                return
            self._refuse(await store.stored(session), max(1, (declared_bytes or 0) // _SHRINKS_TO))

    async def take(self, session: TenantSession, version: ModelVersion) -> None:
        """Refuse a version that has no place; until the transaction ends, no other version of the tenant takes one.

        Args:
            session: of the transaction that writes the version.
            version: with its artifacts.

        Raises:
            StorageFull: there is none.
        """
        await store.lock_publishing_rules(session)
        new_bytes = sum(artifact.sealed_bytes for artifact in version.artifacts)
        self._refuse(await store.stored(session), new_bytes)

    def _refuse(self, stored: store.Stored, new_bytes: int) -> None:
        if stored.n_versions >= self.max_versions:
            raise StorageFull(
                f"your tenant has {stored.n_versions} versions of at most {self.max_versions}; delete one that does not"
                " serve (DELETE /admin/v1/models/<model>/versions/<version>)"
            )
        if stored.sealed_bytes + new_bytes > self.max_bytes:
            raise StorageFull(
                f"your tenant's models take {stored.sealed_bytes:,} of at most {self.max_bytes:,} bytes, and this one"
                f" needs {new_bytes:,} more; delete versions that do not serve"
                " (DELETE /admin/v1/models/<model>/versions/<version>)"
            )
