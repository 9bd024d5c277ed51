"""Sessions in the database, as Django keeps them, found by SQL that is phrased once: every page asks for one."""

from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db import connection
from django.utils import timezone

_DATA = "SELECT session_data FROM django_session WHERE session_key = %s AND expire_date > %s"


class SessionStore(DatabaseStore):
    """Django's, but for how a session is looked up."""

    def load(self) -> dict[str, Any]:
        """Return what the session holds; nothing for one that is unknown or expired, whose key is dropped."""
        with connection.cursor() as cursor:
            cursor.execute(_DATA, [self.session_key, timezone.now()])
            row = cursor.fetchone()
        if row is None:
            self._session_key = None
            return {}
        return self.decode(row[0])
