"""SQLAlchemy's QueuePool, over psycopg."""

import os

import sqlalchemy as sa

import threads

URI = os.environ["URI"].replace("postgresql:", "postgresql+psycopg:")

engine = sa.create_engine(URI, pool_size=8, max_overflow=0, pool_timeout=60)
INSERT = sa.text("INSERT INTO requests VALUES (:number)")


def request(number):
    with engine.begin() as connection:
        connection.execute(INSERT, {"number": number})


threads.work(request, sa.exc.DBAPIError)
