"""A URI as Django's settings want it."""

from urllib.parse import parse_qs, urlsplit


def database(uri, health_checks=False, **options):
    """The settings of a database whose connections are kept."""
    uri = urlsplit(uri)
    said = {name: values[0] for name, values in parse_qs(uri.query).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": uri.hostname,
        "PORT": uri.port,
        "NAME": uri.path[1:],
        "USER": uri.username,
        "PASSWORD": uri.password,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": health_checks,
        "OPTIONS": {**said, **options},
    }
