"""Django's ORM through either endpoint."""

import os
import pathlib
import sys
import tempfile

import django
from django.conf import settings
from django.core.management import call_command

import checks
from django_database import database

# Where `makemigrations` writes.
written = tempfile.TemporaryDirectory()
package = pathlib.Path(written.name, "library_migrations")
package.mkdir()
(package / "__init__.py").touch()
sys.path.append(written.name)
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "library"],
    MIGRATION_MODULES={"library": "library_migrations"},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    DATABASES={
        "default": database(
            os.environ["URI"],
            health_checks=True,
            channel_binding="require",
            sslnegotiation="direct",
        )
    },
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import DatabaseError, IntegrityError, connection, models, transaction  # noqa: E402

from library.models import Author, Book  # noqa: E402


def migrations():
    call_command("makemigrations", "library", verbosity=0)
    call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0, check_unapplied=True)
    assert "library_book" in connection.introspection.table_names()


def objects():
    User.objects.create_user("ada", password="secret")
    ada = Author.objects.create(name="Ada")
    books = [Book(title=f"Book {n}", author=ada, facts={"n": n}, copies=n) for n in range(1000)]
    Book.objects.bulk_create(books)
    assert Book.objects.filter(facts__n__gte=990, author__name="Ada").count() == 10
    assert Book.objects.aggregate(all=models.Sum("copies"))["all"] == 499_500
    Book.objects.filter(copies=0).update(copies=models.F("copies") + 7)
    assert Book.objects.select_related("author").get(title="Book 0").copies == 7
    assert User.objects.get(username="ada").check_password("secret")


def atomic_blocks():
    with transaction.atomic():
        Author.objects.create(name="Grace")
        try:
            with transaction.atomic():
                Author.objects.create(name="Ada")
        except IntegrityError:
            pass
        assert Author.objects.count() == 2
        transaction.set_rollback(True)
    assert [author.name for author in Author.objects.all()] == ["Ada"]


def portions():
    numbers = Book.objects.order_by("id").values_list("facts__n", flat=True)
    assert list(numbers.iterator(chunk_size=50)) == list(range(1000))


def lock_on_a_row():
    other = connection.copy("other")
    with transaction.atomic():
        Author.objects.select_for_update().get(name="Ada")
        query = "SELECT name FROM library_author FOR UPDATE NOWAIT"
        with other.cursor() as cursor:
            error = checks.raises(DatabaseError, lambda: cursor.execute(query))
        assert "could not obtain lock" in str(error), error
    other.close()


def persistent_connections():
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid
    connection.close_if_unusable_or_obsolete()
    Book.objects.first()
    assert connection.connection.info.backend_pid == pid
    # As if a request had ended, and the server had been told to end the session.
    with connection.copy("other").cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    connection.health_check_done = False
    connection.close_if_health_check_failed()
    assert Book.objects.count() == 1000
    assert connection.connection.info.backend_pid != pid


# On the transaction endpoint a client's process id names no process of the server.
of_sessions = {"persistent connections": persistent_connections}
checks.run({
    "migrations": migrations,
    "objects": objects,
    "atomic blocks": atomic_blocks,
    "a query in portions": portions,
    "a lock on a row": lock_on_a_row,
    **(of_sessions if os.environ["ENDPOINT"] == "session" else {}),
})
