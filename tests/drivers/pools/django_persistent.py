"""Django's persistent connections, of which each thread has one."""

import os
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings
from django.core import signals
from django.db import Error, connection

import threads

URI = urlsplit(os.environ["URI"])

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": URI.hostname,
            "PORT": URI.port,
            "NAME": URI.path[1:],
            "USER": URI.username,
            "PASSWORD": URI.password,
            "CONN_MAX_AGE": None,
            "OPTIONS": {name: values[0] for name, values in parse_qs(URI.query).items()},
        }
    },
)
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
