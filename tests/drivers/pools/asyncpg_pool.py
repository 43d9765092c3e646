"""asyncpg's pool, with eight requests at a time, for as long as its standard input stays open."""

import asyncio
import collections
import json
import os
import sys

import asyncpg


async def main():
    pool = await asyncpg.create_pool(os.environ["URI"], min_size=8, max_size=8)
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    ok, failed = 0, collections.Counter()

    async def request():
        nonlocal ok
        try:
            await pool.execute("INSERT INTO requests VALUES ($1)", ok)
            ok += 1
            return True
        # The last is what asyncpg says of a session whose end it has heard and
        # whose connection it has not yet seen close.
        except (
            asyncpg.PostgresError,
            OSError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ) as error:
            failed[getattr(error, "sqlstate", None) or type(error).__name__] += 1
            return False

    async def requests():
        while not over.done():
            await request()
            await asyncio.sleep(0.01)

    print("ready", flush=True)
    await asyncio.gather(*(requests() for _ in range(8)))
    recovered = all(await asyncio.gather(*(request() for _ in range(8))))
    print(json.dumps({"ok": ok, "failed": failed, "recovered": recovered}))


asyncio.run(main())
