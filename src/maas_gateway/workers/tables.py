"""Tables of this room."""

from typing import Final

from sqlalchemy import BigInteger, Column, Table, Uuid

from maas_gateway.database.metadata import METADATA, UTCDateTime

WORKERS: Final = Table(
    "workers",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("registry", BigInteger, nullable=False),
    Column("keyring", BigInteger, nullable=False),
    Column("leased_until", UTCDateTime, nullable=False),
)
