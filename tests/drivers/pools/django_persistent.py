"""Django's persistent connections, of which each thread has one."""

import os
import pathlib
import sys

import django
from django.conf import settings
from django.core import signals
from django.db import Error, connection

import threads

sys.path.append(str(pathlib.Path(__file__).parent.parent))
from django_database import database  # noqa: E402

settings.configure(DATABASES={"default": database(os.environ["URI"])})
django.setup()


def request(number):
    # What Django does around each request of HTTP; it closes connections then
    # that are of no use any more.
    signals.request_started.send(None)
    try:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO requests VALUES (%s)", [number])
    finally:
        signals.request_finished.send(None)


threads.work(request, Error)
