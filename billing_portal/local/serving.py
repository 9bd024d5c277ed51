"""The portal behind gunicorn, in a process forked from this one with the settings as they stand; for benchmarks."""

import contextlib
import http.client
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.db import connections
from gunicorn.app.base import BaseApplication

from billing_portal.local.processes import free_port

_START_SECONDS = 30


class _Application(BaseApplication):  # type: ignore[misc]
    def __init__(self, port: int, workers: int) -> None:
        self.port, self.workers = port, workers
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": f"127.0.0.1:{self.port}",
            "workers": self.workers,
            "worker_class": "gthread",
            "threads": 4,
            "keepalive": 60,
            "loglevel": "error",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return get_wsgi_application()


@contextlib.contextmanager
def served(*, workers: int = 1) -> Iterator[int]:
    """Yield the port on which the portal answers, and stop it afterwards."""
    port = free_port()
    connections.close_all()  # a forked process must not share a connection
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(port, workers), daemon=True)
    process.start()
    try:
        _wait_for(port)
        yield port
    finally:
        process.terminate()
        process.join(10)


def _serve(port: int, workers: int) -> None:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _Application(port, workers).run()


def _wait_for(port: int) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
