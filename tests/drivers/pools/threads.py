"""Eight threads with requests, for as long as the standard input stays open."""

import collections
import concurrent.futures
import itertools
import json
import sys
import threading
import time


def work(request, errors):
    """Calls `request` with a number again and again; it may raise `errors`."""
    over = threading.Event()
    numbers, ok = itertools.count(), itertools.count()
    failed, lock = collections.Counter(), threading.Lock()

    def attempt():
        try:
            request(next(numbers))
        except errors as error:
            # What psycopg said, where a library puts words of its own around it.
            said = error.__cause__ or error
            with lock:
                failed[getattr(said, "sqlstate", None) or type(said).__name__] += 1
            return False
        next(ok)
        return True

    def attempts():
        while not over.is_set():
            attempt()
            time.sleep(0.01)
        return attempt()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        running = [threads.submit(attempts) for _ in range(8)]
        print("ready", flush=True)
        sys.stdin.read()
        over.set()
        recovered = all([thread.result() for thread in running])
    print(json.dumps({"ok": next(ok), "failed": failed, "recovered": recovered}))
