"""psycopg 3 (with libpq 18) through the session endpoint."""

import asyncio
import os
import threading
import time

import psycopg

import checks

URI = os.environ["URI"]


def connect(rest="", **options):
    return psycopg.connect(URI + rest, **options)


def channel_binding():
    with connect("&channel_binding=require") as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SELECT current_user").fetchone() == ("app",)


def direct_tls():
    with connect("&sslnegotiation=direct&channel_binding=require") as connection:
        assert connection.execute("SELECT 42").fetchone() == (42,)


def parameters():
    with connect() as connection:
        for number in range(20):  # Prepared on the server from the sixth on.
            row = connection.execute("SELECT %s::int + 1, %s", (number, "ä'\"\\")).fetchone()
            assert row == (number + 1, "ä'\"\\")
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert prepared == (1,), prepared
        binary = connection.execute("SELECT %b::bytea", (bytes(range(256)),), binary=True)
        assert binary.fetchone() == (bytes(range(256)),)


def transactions():
    with connect() as connection:
        connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        with connection.transaction():
            connection.execute("INSERT INTO t VALUES (1)")
            checks.raises(psycopg.errors.UniqueViolation, lambda: insert_again(connection))
            connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT array_agg(n) FROM t").fetchone() == ([1, 2],)
        connection.rollback()
    with connect() as connection:
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)


def insert_again(connection):
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (1)")


def pipeline():
    with connect(autocommit=True) as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(2000)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(2000))


def pipeline_with_an_error():
    with connect(autocommit=True) as connection:
        def failing():
            with connection.pipeline():
                connection.execute("SELECT 1")
                connection.execute("SELECT 1 / %s", (0,))
                connection.execute("SELECT 2")

        checks.raises(psycopg.errors.DivisionByZero, failing)
        assert connection.execute("SELECT 3").fetchone() == (3,)


def server_side_cursor():
    with connect() as connection, connection.cursor("portions", scrollable=True) as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 5000)")
        assert sum(row[0] for row in cursor) == 12_502_500
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchmany(2) == [(1,), (2,)]


def copy():
    text = "line\nwith \\ and \t"
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE copied (n int, t text)")
        with cursor.copy("COPY copied FROM STDIN") as copying:
            for number in range(50_000):
                copying.write_row((number, text))
        with cursor.copy("COPY copied TO STDOUT (FORMAT binary)") as copying:
            copying.set_types(["int4", "text"])
            rows = list(copying.rows())
        assert len(rows) == 50_000 and rows[777] == (777, text)

        def abandoned():
            with cursor.copy("COPY copied FROM STDIN") as copying:
                copying.write_row((1, "x"))
                raise KeyError

        checks.raises(KeyError, abandoned)
        connection.rollback()
        assert cursor.execute("SELECT 1").fetchone() == (1,)


def notifications():
    with connect(autocommit=True) as listener, connect(autocommit=True) as sender:
        listener.execute("LISTEN news")
        sender.execute("SELECT pg_notify('news', %s)", ("x" * 7000,))
        notification = next(listener.notifies(timeout=10))
        assert notification.payload == "x" * 7000
        assert notification.pid == sender.info.backend_pid


def cancel():
    with connect(autocommit=True) as connection:
        for cancel_it in (connection.cancel_safe, connection.cancel):
            timer = threading.Timer(0.2, cancel_it)
            timer.start()
            started = time.monotonic()
            checks.raises(
                psycopg.errors.QueryCanceled, lambda: connection.execute("SELECT pg_sleep(30)")
            )
            assert time.monotonic() - started < 10
            timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


async def asynchronous():
    async def square(number):
        async with await psycopg.AsyncConnection.connect(URI) as connection:
            row = await (await connection.execute("SELECT %s * %s", (number, number))).fetchone()
            return row[0]

    assert await asyncio.gather(*map(square, range(4))) == [0, 1, 4, 9]
    async with await psycopg.AsyncConnection.connect(URI, autocommit=True) as connection:
        task = asyncio.create_task(connection.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.2)
        await connection.cancel_safe()
        try:
            await task
        except psycopg.errors.QueryCanceled:
            return
    raise AssertionError("was not cancelled")


def large_value():
    value = os.urandom(1 << 20) * 50
    with connect() as connection:
        query = "SELECT length(%b), %b"
        length, same = connection.execute(query, (value, value), binary=True).fetchone()
        assert length == len(value) and same == value


def process_id():
    with connect(autocommit=True) as one, connect(autocommit=True) as other:
        pid = one.info.backend_pid
        assert one.execute("SELECT pg_backend_pid()").fetchone() == (pid,)
        assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)
        error = checks.raises(psycopg.OperationalError, lambda: one.execute("SELECT 1"))
        assert "terminating connection due to administrator command" in str(error), error


checks.run({
    "channel binding is required and given": channel_binding,
    "direct TLS": direct_tls,
    "parameters and prepared statements": parameters,
    "transactions and savepoints": transactions,
    "a pipeline": pipeline,
    "a pipeline with an error": pipeline_with_an_error,
    "a cursor on the server": server_side_cursor,
    "copy both ways": copy,
    "notifications": notifications,
    "cancel": cancel,
    "an asynchronous connection": asynchronous,
    "fifty megabytes in one value": large_value,
    "the server's process id": process_id,
})
