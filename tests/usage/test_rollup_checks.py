from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.usage.conftest import call_object
from usage import partitions, rollup_checks, rollup_upkeep
from usage.models import Call, DailyUsage

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled(priced, acme, other, record, settle):
    record(*[call_object(f"c{number}", organization=name) for number in range(20) for name in ("acme", "other")])
    settle(acme)
    settle(other)
    record(call_object("waiting"), call_object("unrated", products=["nothing_known"]))


def test_i09_settled_waiting_and_unrated_calls_agree(settled, capsys):
    assert rollup_checks.differing() == []
    call_command("verify_usage")
    assert "agree" in capsys.readouterr().out


def test_i09_an_organization_without_calls_agrees(priced, acme):
    assert rollup_checks.differing() == []


def test_i09_a_cell_of_a_rollup_that_is_wrong_names_its_organization(settled, other, capsys):
    DailyUsage.objects.filter(organization=other).update(micros=1)
    (found,) = rollup_checks.differing()
    assert (found.organization_id, found.micros_of_rollups) == (other.pk, 1)
    assert found.micros_settled > 1
    with pytest.raises(CommandError, match="1 organizations"):
        call_command("verify_usage")
    assert "usage_dailyusage should be" in capsys.readouterr().out


def test_i09_a_call_that_is_gone_names_its_organization(settled, acme):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger keeps it then
        Call.objects.filter(organization=acme, call_id="c3").delete()
        cursor.execute("SET LOCAL session_replication_role = origin")
    (found,) = rollup_checks.differing()
    assert found.organization_id == acme.pk
    assert found.micros_of_calls < found.micros_of_ranges


@pytest.mark.django_db(transaction=True)
def test_i09_calls_of_archived_months_are_not_missed(priced, acme, record, settle, now):
    turn = datetime(2025, 10, 1, tzinfo=UTC)
    before, after = turn - timedelta(minutes=5), turn + timedelta(minutes=5)
    items = [
        call_object(f"c{number}", start_timestamp=start.isoformat(), end_timestamp=...)
        for number, start in enumerate((before, after))
    ]
    record(*items)
    settle(acme)
    assert rollup_checks.differing() == []
    try:
        for month in [month for month in partitions.months() if month < turn.date()]:
            partitions.detach(month)
        assert Call.objects.count() == 1
        assert rollup_checks.differing() == []
    finally:
        partitions.ensure([before.date().replace(day=1)])


def test_i09_rebuilding_many_calls_of_many_batches_gives_the_same_rollups(priced, acme, record, settle):
    for batch in range(4):
        record(*[call_object(f"b{batch}-{number}", duration_ms=1_000 * number) for number in range(60)])
    settle(acme)
    kept = list(DailyUsage.objects.values_list("date", "mix", "calls", "micros", "line_micros"))
    rollup_upkeep.rebuild(acme.pk)
    assert list(DailyUsage.objects.values_list("date", "mix", "calls", "micros", "line_micros")) == kept != []
    assert rollup_upkeep.verify(acme.pk) == []
