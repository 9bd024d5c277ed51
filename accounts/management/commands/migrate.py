"""`manage.py migrate`, which never lets the portal's users wait for a lock that a migration waits for.

Whoever waits for a table's lock lets all others queue behind. So a migration gives up after three seconds, by which
nothing has changed, and is tried again.
"""

import time
from typing import Any

from django.core.management.base import CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from psycopg.errors import LockNotAvailable

_PAUSE_SECONDS = 5.0


class Command(migrate.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--lock-timeout", type=int, default=3_000, metavar="MS", help="default: %(default)s")
        parser.add_argument("--lock-tries", type=int, default=60, metavar="N", help="default: %(default)s")

    def handle(self, *args: Any, **options: Any) -> None:
        for tries_left in reversed(range(max(1, options["lock_tries"]))):
            try:
                self._migrate(*args, **options)
                return
            except OperationalError as error:
                if not isinstance(error.__cause__, LockNotAvailable) or not tries_left:
                    raise
                self.stdout.write(f"\nAnother transaction holds the lock; {tries_left} tries left.")
                time.sleep(_PAUSE_SECONDS)

    def _migrate(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{options['lock_timeout']}ms"])
        try:
            super().handle(*args, **options)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")
