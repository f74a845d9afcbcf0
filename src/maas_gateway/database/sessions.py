"""Statements on one connection: for one tenant, or (by `unscoped` only) for none in particular.

Rules: a `TenantSession` adds its tenant to every statement it runs, in the condition of a read,
change or deletion and in the values of an insertion, so that a store which forgets the tenant
cannot reach another's rows. Stores turn rows into frozen values; rows do not leave a store.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Table, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from maas_gateway.database.paging import Asked, Position
from maas_gateway.errors import Conflict
from maas_gateway.identifiers import TenantId

_Where = ColumnElement[bool]


class Session:
    """Statements within one open transaction.

    Args:
        connection: open, in a transaction that its opener commits or rolls back.
        changes: the database's table of change counters.
    """

    def __init__(self, connection: AsyncConnection, changes: Table) -> None:
        self._connection = connection
        self._changes = changes

    def _scope(self, table: Table) -> list[_Where]:
        del table
        return []

    def _stamp(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    async def rows(
        self,
        table: Table,
        *where: _Where,
        order_by: Sequence[ColumnElement[Any]] = (),
        limit: int | None = None,
        for_update: bool = False,
    ) -> Sequence[RowMapping]:
        """Return the matching rows; `for_update` locks them until the transaction ends."""
        statement = select(table).where(*self._scope(table), *where).order_by(*order_by).limit(limit)
        if for_update:
            statement = statement.with_for_update()
        return (await self._connection.execute(statement)).mappings().all()

    async def page(
        self, table: Table, *where: _Where, order_by: Sequence[ColumnElement[Any]], asked: Asked
    ) -> tuple[Sequence[RowMapping], Position | None]:
        """Return the matching rows of one page, and the position behind which the next begins, if there is one.

        Args:
            table: whose rows.
            where: which of them.
            order_by: columns that together are unique and that no change of a row changes.
            asked: which page.
        """
        behind = [_behind(order_by, asked.after)] if asked.after else []
        rows = await self.rows(table, *where, *behind, order_by=order_by, limit=asked.limit + 1)
        page = rows[: asked.limit]
        return page, tuple(page[-1][column] for column in order_by) if len(rows) > len(page) else None

    async def row(self, table: Table, *where: _Where, for_update: bool = False) -> RowMapping | None:
        """Return the first matching row, or None."""
        found = await self.rows(table, *where, limit=1, for_update=for_update)
        return found[0] if found else None

    async def count(self, table: Table, *where: _Where) -> int:
        """Return the number of matching rows."""
        statement = select(func.count()).select_from(table).where(*self._scope(table), *where)
        return int((await self._connection.execute(statement)).scalar_one())

    async def insert(self, table: Table, **values: Any) -> None:
        """Insert one row.

        Raises:
            Conflict: a unique constraint has it already; the transaction is of no more use.
        """
        try:
            await self._connection.execute(insert(table).values(**self._stamp(values)))
        except IntegrityError as cause:
            raise Conflict(f"it exists already in {table.name}") from cause

    async def insert_unless_there(self, table: Table, **values: Any) -> None:
        """Insert one row, or leave the one that has its primary key, also one that comes into being meanwhile."""
        statement = self._upsert(table).values(**self._stamp(values)).on_conflict_do_nothing()
        await self._connection.execute(statement)

    async def insert_or_add(
        self, table: Table, *, key: Mapping[str, Any], fixed: Mapping[str, Any], amounts: Mapping[str, int]
    ) -> None:
        """Insert one row, or add amounts to those of the row that has its primary key.

        Args:
            table: whose row.
            key: the primary key, the session's tenant left out.
            fixed: what a new row has besides and an old one keeps.
            amounts: what is added.
        """
        first = self._upsert(table).values(**self._stamp({**key, **fixed, **amounts}))
        added = {name: table.c[name] + amount for name, amount in amounts.items()}
        await self._connection.execute(first.on_conflict_do_update(index_elements=list(table.primary_key), set_=added))

    async def sums(
        self, table: Table, *where: _Where, by: Sequence[ColumnElement[Any]], of: Sequence[str]
    ) -> Sequence[RowMapping]:
        """Return the sums of some columns of the matching rows, by other columns and in their order."""
        added = [func.sum(table.c[name]).label(name) for name in of]
        statement = select(*by, *added).where(*self._scope(table), *where).group_by(*by).order_by(*by)
        return (await self._connection.execute(statement)).mappings().all()

    async def insert_or_lock(self, table: Table, **values: Any) -> RowMapping:
        """Insert one row, or leave the one that has its primary key; return it, locked until the transaction ends."""
        keys = list(table.primary_key.columns)
        made = self._upsert(table).values(**self._stamp(values))
        itself = {key.name: key for key in keys}  # "do nothing" would neither lock nor return what is there
        statement = made.on_conflict_do_update(index_elements=keys, set_=itself).returning(*table.c)
        return (await self._connection.execute(statement)).mappings().one()

    async def update(self, table: Table, *where: _Where, **values: Any) -> int:
        """Change the matching rows; return how many there were."""
        statement = update(table).where(*self._scope(table), *where).values(**self._checked(values))
        result = await self._connection.execute(statement)
        return int(result.rowcount)

    async def update_each(self, table: Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Change many rows in one statement, each to values of its own.

        Args:
            table: whose rows.
            key: the column that tells them apart.
            rows: the key's value and the new values of the same further columns, for each.
        """
        if not rows:
            return
        names = [name for name in rows[0] if name != key]
        statement = (
            update(table)
            .where(*self._scope(table), table.c[key] == bindparam(f"this_{key}"))
            .values({name: bindparam(f"new_{name}") for name in names})
        )
        given = [{f"this_{key}": row[key], **{f"new_{name}": row[name] for name in names}} for row in rows]
        for row in rows:
            self._checked(dict(row))
        await self._connection.execute(statement, given)

    async def delete(self, table: Table, *where: _Where) -> int:
        """Delete the matching rows; return how many there were."""
        result = await self._connection.execute(delete(table).where(*self._scope(table), *where))
        return int(result.rowcount)

    async def bump(self, topic: str) -> None:
        """Raise a topic's change counter when this transaction commits."""
        counter = self._changes.c.counter
        first = self._upsert(self._changes).values(topic=topic, counter=1)
        await self._connection.execute(
            first.on_conflict_do_update(index_elements=[self._changes.c.topic], set_={"counter": counter + 1})
        )

    def _upsert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        is_sqlite = self._connection.dialect.name == "sqlite"
        return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


def _behind(columns: Sequence[ColumnElement[Any]], position: Position) -> _Where:
    """Return the condition that a row comes behind a position."""
    (column, *others), (value, *rest) = columns, position
    if not others:
        return column > value
    return or_(column > value, and_(column == value, _behind(others, tuple(rest))))


class TenantSession(Session):
    """Statements that see one tenant's rows only.

    Protects against a store that forgets its tenant; not against one that builds SQL of its own.
    """

    def __init__(self, connection: AsyncConnection, changes: Table, tenant: TenantId) -> None:
        super().__init__(connection, changes)
        self.tenant = tenant

    def _scope(self, table: Table) -> list[_Where]:
        return [table.c.tenant_id == self.tenant]

    def _stamp(self, values: dict[str, Any]) -> dict[str, Any]:
        return {**self._checked(values), "tenant_id": self.tenant}

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("tenant_id", self.tenant) != self.tenant:
            raise ValueError("a tenant's session cannot write another tenant's row")
        return values


class UnscopedSession(Session):
    """Statements that see every tenant's rows; opened through `database.unscoped` only."""

    def within(self, tenant: TenantId) -> TenantSession:
        """Return a session of one tenant in the same transaction."""
        return TenantSession(self._connection, self._changes, tenant)
