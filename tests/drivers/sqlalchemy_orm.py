"""SQLAlchemy through either endpoint, with psycopg and with asyncpg."""

import asyncio
import os
import ssl
from urllib.parse import parse_qs

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import checks

URI = os.environ["URI"].replace("postgresql:", "postgresql+psycopg:")


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")
    facts: Mapped[dict] = mapped_column(JSONB)
    words: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    state: Mapped[str] = mapped_column(ENUM("planned", "printed", name="state"))


engine = sa.create_engine(URI, pool_size=4, pool_pre_ping=True)


def tables():
    Base.metadata.create_all(engine)
    inspector = sa.inspect(engine)
    assert set(inspector.get_table_names()) == {"author", "book"}
    assert inspector.get_foreign_keys("book")[0]["referred_table"] == "author"
    assert inspector.get_enums()[0]["labels"] == ["planned", "printed"]


def objects():
    with Session(engine) as session:
        ada = Author(name="Ada")
        for n in range(500):
            ada.books.append(Book(facts={"n": n}, words=[str(n), "x"], state="planned"))
        session.add(ada)
        session.commit()
        late = sa.select(Book).where(Book.facts["n"].as_integer() >= 490).order_by(Book.id)
        assert [book.words[0] for book in session.scalars(late)] == [str(n) for n in range(490, 500)]


def savepoints():
    with Session(engine) as session:
        session.add(Author(name="Grace"))
        session.flush()
        try:
            with session.begin_nested():
                session.add(Author(name="Ada"))
                session.flush()
            raise AssertionError("a name twice")
        except IntegrityError:
            pass
        assert session.scalar(sa.select(sa.func.count(Author.id))) == 2
        session.rollback()
        assert session.scalars(sa.select(Author.name)).all() == ["Ada"]


def upsert():
    again = insert(Author).values(name="Ada").on_conflict_do_nothing().returning(Author.id)
    with engine.begin() as connection:
        assert connection.scalar(again) is None


def isolation_levels():
    for level in ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"):
        with engine.connect().execution_options(isolation_level=level) as connection:
            shown = connection.scalar(sa.text("SHOW transaction_isolation"))
            assert shown == level.lower(), shown
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM author"))


def portions():
    with engine.connect() as connection:
        numbers = sa.select(Book.facts["n"].as_integer()).order_by(Book.id)
        result = connection.execution_options(yield_per=50).execute(numbers)
        assert list(result.scalars()) == list(range(500))


async def asynchronously():
    query = {name: values[0] for name, values in parse_qs(URI.partition("?")[2]).items()}
    uri = sa.make_url(URI).set(drivername="postgresql+asyncpg", query={})
    arguments = {
        "ssl": ssl.create_default_context(cafile=query["sslrootcert"]),
        "server_settings": {"options": query["options"]},
    }
    engine = create_async_engine(uri, pool_size=4, connect_args=arguments)

    async def count(least):
        async with AsyncSession(engine) as session, session.begin():
            books = sa.select(sa.func.count(Book.id)).where(Book.facts["n"].as_integer() >= least)
            return await session.scalar(books)

    counts = await asyncio.gather(*(count(n) for n in range(100)))
    assert counts == [500 - n for n in range(100)]
    async with engine.begin() as connection:
        # A statement that is prepared already, of a table that has changed since.
        await connection.execute(sa.text("ALTER TABLE book ADD COLUMN pages int"))
    assert await count(1) == 499
    await engine.dispose()


checks.run({
    "tables": tables,
    "objects": objects,
    "savepoints": savepoints,
    "an upsert": upsert,
    "isolation levels": isolation_levels,
    "a query in portions": portions,
    "asyncpg": asynchronously,
})
