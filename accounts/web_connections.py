"""Connections of web processes give up early: a request that waits for a lock or a stalled disk is answered, not kept.

Workers and commands have no such limits. What must take longer in a web process (a streamed export, say) lifts them for
its own transaction: `SET LOCAL statement_timeout = 0`.
"""

from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


def limit() -> None:
    """Limit every connection that this process opens from here on."""
    connection_created.connect(_set_timeouts, dispatch_uid="accounts.web_connections")


def _set_timeouts(sender: Any, connection: BaseDatabaseWrapper, **_: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
            [f"{settings.WEB_STATEMENT_TIMEOUT_SECONDS}s", f"{settings.WEB_LOCK_TIMEOUT_SECONDS}s"],
        )
