"""What happens to keys by itself: rotated when they are old, retired when nothing needs them any more.

Rules: by purpose, as the configuration says; the same acts as by hand, recorded with `schedule` as
their actor; what cannot be done now (it runs already, something still needs the key, the root-key
holder is down) is left for the next look.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.rotate import Rotate
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import GatewayError
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.tenants import store as tenants

ACTOR: Final = "schedule"


class Schedule:
    """Looks after keys.

    Args:
        acting: what every act needs.
        keyring: all rings.
        rotate: the acts on them.
        rotate_after_days: age of a primary at which its ring is rotated, by purpose.
        retire_after_days: days after which an enabled version is retired, by purpose.
    """

    def __init__(
        self,
        acting: Acting,
        keyring: Keyring,
        rotate: Rotate,
        *,
        rotate_after_days: Mapping[Purpose, int],
        retire_after_days: Mapping[Purpose, int],
    ) -> None:
        self._acting = acting
        self._keyring = keyring
        self._rotate = rotate
        self._rotate_after = {purpose: timedelta(days=days) for purpose, days in rotate_after_days.items()}
        self._retire_after = {purpose: timedelta(days=days) for purpose, days in retire_after_days.items()}
        self._log = structlog.get_logger()

    async def look(self) -> None:
        """Do what is due."""
        looked_after = self._rotate_after.keys() | self._retire_after.keys()
        if not looked_after:
            return
        async with read_all(self._acting.database) as session:
            owners = [PLATFORM, *(tenant.tenant_id for tenant in await tenants.every(session))]
        for owner in owners:
            for purpose in sorted(looked_after):
                if purpose.has_ring(owner):
                    await self._look_at(owner, purpose)

    async def _look_at(self, owner: TenantId, purpose: Purpose) -> None:
        now = self._acting.clock.now()
        for version in await self._keyring.versions(owner, purpose):
            try:
                if version.state is KeyState.PRIMARY and self._is_due(version, now - version.created_at):
                    await self._rotate.rotate_by_itself(owner, purpose, actor=ACTOR)
                elif version.state is KeyState.ENABLED and self._is_over(version, now - version.changed_at):
                    await self._rotate.retire_by_itself(version, actor=ACTOR)
            except GatewayError as error:
                self._log.info("key_left_for_later", purpose=purpose.value, version=version.version, why=error.detail)

    def _is_due(self, version: KeyVersion, age: timedelta) -> bool:
        return version.purpose in self._rotate_after and age >= self._rotate_after[version.purpose]

    def _is_over(self, version: KeyVersion, age: timedelta) -> bool:
        return version.purpose in self._retire_after and age >= self._retire_after[version.purpose]
