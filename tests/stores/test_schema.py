"""The tables' versions: forward only, whole, and harmless twice. With the store, they are in test_postgres.py."""

import asyncio

import asyncpg
import pytest

from ivrguard.core.errors import StoreFault
from ivrguard.stores import schema
from ivrguard.stores.pool import Pool, address_of
from ivrguard.stores.postgres import migrate


def test_a_version_is_this_programs_or_refused_with_what_to_do():
    schema.check("db", len(schema.MIGRATIONS))
    with pytest.raises(StoreFault, match=r"^db: it is of version 0, .*: `ivrguard migrate` brings it there$"):
        schema.check("db", 0)
    with pytest.raises(StoreFault, match=r"^db: it is of version 99, .* install the newer ivrguard"):
        schema.check("db", 99)


async def test_steps_are_taken_one_by_one_or_not_at_all(postgres, monkeypatch):
    """A step that fails takes those before it along: the database is where it was. One more step is one more version."""
    postgres.sql("CREATE SCHEMA steps")
    url = postgres.at_schema("steps")
    whole = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*whole, ("CREATE TABLE ivrguard_value (a integer)",)))
    with pytest.raises(StoreFault, match="already exists"):
        await migrate(url)
    pool = await Pool.open(address_of(url), connections_max=1)
    until = asyncio.get_running_loop().time() + 5
    assert await pool.run(schema.version_of, until=until) == 0
    monkeypatch.setattr(schema, "MIGRATIONS", whole)
    assert (await migrate(url))[1:] == (0, 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*whole, ("CREATE TABLE ivrguard_next (a integer)",)))
    assert (await migrate(url))[1:] == (1, 2)
    assert await pool.run(schema.version_of, until=until) == 2
    await pool.close()
    postgres.sql("DROP SCHEMA steps CASCADE")


async def test_ids_are_sorted_by_code_points_whatever_the_databases_language_is(postgres, database):
    """Bytes have no collation: see the contract for what that is good for."""
    connection = await asyncpg.connect(database)
    types = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = 'ivrguard_value'"
    )
    await connection.close()
    assert dict(types)["id"] == dict(types)["data"] == "bytea"
