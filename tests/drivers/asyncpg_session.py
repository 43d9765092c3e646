"""asyncpg through the session endpoint."""

import asyncio
import io
import os
import ssl
from urllib.parse import parse_qs, urlsplit

import asyncpg

import checks

URI = os.environ["URI"]


async def uri_as_it_stands():
    connection = await asyncpg.connect(URI)
    assert await connection.fetchval("SELECT current_user") == "app"
    assert connection._transport.get_extra_info("cipher") is not None
    pid = connection.get_server_pid()
    assert await connection.fetchval("SELECT pg_backend_pid()") == pid
    await connection.close()


async def context_of_tls():
    uri = urlsplit(URI)
    query = parse_qs(uri.query)
    context = ssl.create_default_context(cafile=query["sslrootcert"][0])
    context.set_alpn_protocols(["postgresql"])
    for direct in (False, True):
        connection = await asyncpg.connect(
            host="localhost",
            port=uri.port,
            user=uri.username,
            password=uri.password,
            database=uri.path[1:],
            ssl=context,
            direct_tls=direct,
            server_settings={"options": query["options"][0], "application_name": "in a context"},
        )
        assert await connection.fetchval("SHOW application_name") == "in a context"
        await connection.close()


async def prepared_statements():
    connection = await asyncpg.connect(URI)
    statement = await connection.prepare("SELECT $1::int * 2, $2::text[]")
    for number in range(100):
        row = await statement.fetchrow(number, ["a", None])
        assert tuple(row) == (number * 2, ["a", None])
    await connection.execute("CREATE TEMP TABLE many (n int)")
    await connection.executemany("INSERT INTO many VALUES ($1)", [(n,) for n in range(5000)])
    assert await connection.fetchval("SELECT sum(n) FROM many") == 12_497_500
    await connection.close()


async def copy():
    connection = await asyncpg.connect(URI)
    await connection.execute("CREATE TEMP TABLE copied (n int, t text)")
    records = [(number, f"text {number}") for number in range(20_000)]
    assert await connection.copy_records_to_table("copied", records=records) == "COPY 20000"
    out = io.BytesIO()
    await connection.copy_from_query("SELECT * FROM copied ORDER BY n", output=out)
    lines = out.getvalue().decode().splitlines()
    assert len(lines) == 20_000 and lines[9] == "9\ttext 9"
    await connection.close()


async def notifications():
    listener, sender = await asyncpg.connect(URI), await asyncpg.connect(URI)
    heard = asyncio.get_running_loop().create_future()
    await listener.add_listener("news", lambda _, pid, __, text: heard.set_result((pid, text)))
    await sender.execute("NOTIFY news, 'hello'")
    assert await asyncio.wait_for(heard, 10) == (sender.get_server_pid(), "hello")
    await listener.close()
    await sender.close()


async def cursor():
    connection = await asyncpg.connect(URI)
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("SELECT generate_series(1, 1000)", prefetch=10):
            total += row[0]
        assert total == 500_500
    await connection.close()


async def timeout():
    connection = await asyncpg.connect(URI)
    try:
        await connection.fetchval("SELECT pg_sleep(30)", timeout=0.2)
        raise AssertionError("no timeout")
    except asyncio.TimeoutError:
        pass
    # The driver has cancelled the query: the connection is free again.
    assert await asyncio.wait_for(connection.fetchval("SELECT 1"), 10) == 1
    await connection.close()


async def pool():
    async with asyncpg.create_pool(URI, min_size=2, max_size=4) as connections:
        answers = await asyncio.gather(
            *(connections.fetchval("SELECT $1::int", number) for number in range(200))
        )
        assert answers == list(range(200))


checks.run({
    "the URI as it stands": uri_as_it_stands,
    "a context of TLS, direct": context_of_tls,
    "prepared statements": prepared_statements,
    "copy both ways": copy,
    "notifications": notifications,
    "a cursor": cursor,
    "a query that takes too long": timeout,
    "a pool": pool,
})
