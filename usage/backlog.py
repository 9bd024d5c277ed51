"""How much waits for settlement, over all organizations: that it grows without end means that its workers are down."""

from django.db import connection

# A range is a row that settlement writes; single calls make one each.
_CALLS_PER_RANGE = 10

_COUNT = """
    SELECT count(*), coalesce(sum(last_id - first_id + 1), 0)
    FROM (SELECT first_id, last_id FROM usage_callrange WHERE first_sequence IS NULL LIMIT %s) AS waiting"""


def is_too_long(*, most_calls: int) -> bool:
    """Say whether more calls wait than `most_calls`, or a tenth as many ranges of calls, which take as long."""
    most_ranges = max(1, most_calls // _CALLS_PER_RANGE)
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [most_ranges + 1])
        ranges, calls = cursor.fetchone()
    return bool(ranges > most_ranges or calls > most_calls)
