"""What has been recorded since one last looked: for a page that stays open and asks again and again.

Ids follow one another in the order of recording, so the last id of the newest range says all: whoever has seen it has
seen every priced call. Asking for it reads one row of an index.
"""

from typing import Any

from django.db import connection

from usage import calls
from usage.calls import Filters

_NEWEST = "SELECT last_id FROM usage_callrange WHERE organization_id = %s ORDER BY first_id DESC LIMIT 1"
_COUNT = """
    SELECT count(*) FROM (
        SELECT FROM (
            SELECT c.* FROM usage_callrange r
            JOIN usage_call c ON c.organization_id = r.organization_id
             AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
            WHERE r.organization_id = %(organization)s AND r.first_id > %(seen)s
            ORDER BY r.first_id DESC LIMIT %(searched)s
        ) AS c WHERE {conditions} LIMIT %(most)s
    ) AS counted"""


def newest(organization_id: int) -> int:
    """Return the id of the organization's call that was recorded last, 0 without one."""
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, [organization_id])
        found = cursor.fetchone()
    return int(found[0]) if found else 0


def count(organization_id: int, filters: Filters, *, seen: int, most: int) -> int:
    """Return how many calls that the filters keep were recorded after the one with id `seen`, counting up to `most`.

    No more than `calls.SEARCHED` are looked at, the newest.
    """
    conditions, values = calls.conditions_of(organization_id, filters)
    asked: dict[str, Any] = values | {"seen": seen, "most": most, "searched": calls.SEARCHED}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT.format(conditions=" AND ".join(conditions)), asked)
        return int(cursor.fetchone()[0])
