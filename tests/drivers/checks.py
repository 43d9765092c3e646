"""Runs the checks of a script one after the other and names each that passed."""

import asyncio
import inspect


def run(checks):
    """Runs a dictionary of names and functions, asynchronous ones too."""
    for name, check in checks.items():
        if inspect.iscoroutinefunction(check):
            asyncio.run(check())
        else:
            check()
        print(name, flush=True)


def raises(kind, action):
    """The exception of this kind that the action must raise."""
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
