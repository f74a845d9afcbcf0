"""What a gateway has stored, counted where it lies."""

import sqlalchemy as sa

from builders.gateways import World
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES
from maas_gateway.keyring.tables import DATA_KEYS
from maas_gateway.registry.tables import ARTIFACTS, MODEL_VERSIONS, MODELS


async def n_left(world: World) -> dict[str, int]:
    """Return how many models, versions, artifacts, blobs and data keys there are."""
    main = {"models": MODELS, "versions": MODEL_VERSIONS, "artifacts": ARTIFACTS}
    counted = {
        **await _counted(Database(world.settings.main_url, CHANGES), main),
        **await _counted(Database(world.settings.keys_url, KEYS_CHANGES), {"data keys": DATA_KEYS}),
    }
    return {**counted, "blobs": len(list((world.settings.data_dir / "blobs").glob("??/*")))}


async def _counted(database: Database, tables: dict[str, sa.Table]) -> dict[str, int]:
    counted = {}
    async with database.connection(is_write=False) as connection:
        for name, table in tables.items():
            counted[name] = (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one()
    await database.close()
    return counted
