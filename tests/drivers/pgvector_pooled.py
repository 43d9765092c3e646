"""pgvector through the transaction endpoint."""

import os
import random

import psycopg

import checks

URI = os.environ["URI"]
DIMENSIONS = 64

random.seed(1)
vectors = [[random.random() for _ in range(DIMENSIONS)] for _ in range(2000)]
wanted = [random.random() for _ in range(DIMENSIONS)]


def distance(vector):
    return sum((a - b) ** 2 for a, b in zip(vector, wanted))


nearest = sorted(range(len(vectors)), key=lambda n: distance(vectors[n]))[:5]


def store():
    with psycopg.connect(URI) as connection:
        connection.execute("DROP TABLE IF EXISTS embeddings")
        connection.execute(f"CREATE TABLE embeddings (id int, embedding vector({DIMENSIONS}))")
        with connection.cursor() as cursor:
            rows = [(n, str(vector)) for n, vector in enumerate(vectors)]
            cursor.executemany("INSERT INTO embeddings VALUES (%s, %s)", rows)
            assert cursor.rowcount == len(vectors)


def search(connection):
    query = "SELECT id FROM embeddings ORDER BY embedding <-> %s::vector LIMIT 5"
    return [row[0] for row in connection.execute(query, (str(wanted),))]


def exact_search():
    with psycopg.connect(URI) as connection:
        assert search(connection) == nearest


def search_by_an_index():
    with psycopg.connect(URI) as connection:
        connection.execute("CREATE INDEX ON embeddings USING hnsw (embedding vector_l2_ops)")
    with psycopg.connect(URI) as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL hnsw.ef_search = 400")
        plan = connection.execute(
            "EXPLAIN SELECT id FROM embeddings ORDER BY embedding <-> %s::vector LIMIT 5",
            (str(wanted),),
        ).fetchall()
        assert "Index Scan" in str(plan), plan
        assert search(connection) == nearest


checks.run({
    "vectors are stored": store,
    "exact search": exact_search,
    "search by an index": search_by_an_index,
})
