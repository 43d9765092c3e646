"""psycopg's pool."""

import os

import psycopg
from psycopg_pool import ConnectionPool

import threads


with ConnectionPool(os.environ["URI"], min_size=8, max_size=8, timeout=60) as pool:
    pool.wait()

    def request(number):
        with pool.connection() as connection:
            connection.execute("INSERT INTO requests VALUES (%s)", [number])

    threads.work(request, psycopg.Error)
