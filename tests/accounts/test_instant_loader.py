from datetime import UTC, datetime

import pytest
from django.db import connection, transaction
from django.utils import timezone
from psycopg.pq import Format

from accounts import instant_loader

_MOMENT = datetime(2026, 10, 1, 12, 34, 56, 123456, tzinfo=UTC)


def _read(text):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz, ARRAY[%s::timestamptz, NULL]", [text, text])
        return cursor.fetchone()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-10-01 12:34:56.123456+00", _MOMENT),
        ("2026-10-01 14:34:56.123456+02", _MOMENT),
        ("0001-01-01 00:00:00+00", datetime.min.replace(tzinfo=UTC)),
        ("9999-12-31 23:59:59.999999+00", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_times_are_read_in_utc_to_the_microsecond(text, expected):
    moment, moments = _read(text)
    assert (moment, moments) == (expected, [expected, None])
    assert moment.tzinfo is UTC
    assert moments[0].tzinfo is UTC


@pytest.mark.django_db
def test_the_compiled_loader_reads_them():
    with connection.cursor() as cursor:
        loader = cursor.connection.adapters.get_loader(instant_loader._TYPE.oid, Format.TEXT)
        assert type(loader(instant_loader._TYPE.oid, cursor.connection)).__module__ == "psycopg_binary._psycopg"


@pytest.mark.django_db(transaction=True)
def test_a_cursor_of_the_servers_reads_them_so_too():
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [_MOMENT])
        assert cursor.fetchone() == (_MOMENT,)


@pytest.mark.django_db
def test_what_is_shown_in_another_zone_is_still_read_in_utc():
    with timezone.override("America/New_York"):
        assert _read("2026-10-01 12:34:56.123456+00")[0].tzinfo is UTC
