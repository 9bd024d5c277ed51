"""The log of what was refused and of what was known already."""

from datetime import timedelta

import pytest

from accounts import api_keys
from tests.conftest import NOW
from tests.usage.conftest import call_object, raw
from usage import ingestion, intake_log
from usage.intake_log import Copies, Rejected, Repeated
from usage.models import Redelivery, Rejection

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def rejected(organization, call_id, reason="The call ends before it starts.", index=0, field="end_timestamp"):
    return Rejected(organization.pk, call_id, index, field, reason)


def note(*items, now=NOW, **options):
    refused = [item for item in items if isinstance(item, Rejected)]
    repeated = [item for item in items if isinstance(item, Repeated)]
    intake_log.note(refused, repeated, now=now, **options)


def test_a_rejected_id_is_found_with_its_reason_and_how_often(acme):
    key, _ = api_keys.issue(organization=None, name="Platform", scopes=["calls:write"], now=NOW)
    note(rejected(acme, "call_1"), rejected(acme, "call_2"), api_key_id=key.pk)
    note(rejected(acme, "call_1", "Expected `int`, got `str`.", index=7, field="duration_ms"), now=NOW + HOUR)
    found = intake_log.of_call(acme.pk, "call_1").rejection
    assert (found.field, found.reason, found.index) == ("duration_ms", "Expected `int`, got `str`.", 7)
    assert (found.times, found.first_received_at, found.last_received_at) == (2, NOW, NOW + HOUR)
    assert intake_log.of_call(acme.pk, "call_2").rejection.api_key == key


def test_an_unknown_id_is_known_to_be_unknown(acme):
    assert intake_log.of_call(acme.pk, "call_nowhere").is_empty


def test_one_id_twice_in_a_batch_counts_twice(acme):
    note(rejected(acme, "call_1"), rejected(acme, "call_1", "Something else."))
    found = intake_log.of_call(acme.pk, "call_1").rejection
    assert (found.times, found.reason) == (2, "Something else.")


def test_items_without_an_id_share_a_row_for_each_reason(acme):
    note(*(rejected(acme, None, "The field is required.", field="call_id") for _ in range(3)), rejected(acme, None))
    assert sorted(Rejection.objects.values_list("call_id", "times")) == [("", 1), ("", 3)]


def test_reasons_that_are_too_long_are_cut_and_still_kept(acme):
    note(rejected(acme, "call_1", "x" * 2000, field="metadata." + "y" * 500))
    found = intake_log.of_call(acme.pk, "call_1").rejection
    assert (len(found.reason), len(found.field)) == (500, 200)


def test_copies_are_counted_with_the_first_and_the_last(acme):
    note(Repeated(acme.pk, "call_1", False), Repeated(acme.pk, "call_2", False))
    note(Repeated(acme.pk, "call_1", False), Repeated(acme.pk, "call_1", True), now=NOW + HOUR)
    found = intake_log.of_call(acme.pk, "call_1")
    assert found.duplicates == Copies(2, NOW, NOW + HOUR)
    assert found.conflicts == Copies(1, NOW + HOUR, NOW + HOUR)
    assert Redelivery.objects.count() == 2


def test_a_batch_costs_one_statement_of_each_kind(acme, other, django_assert_num_queries):
    items = [rejected(acme, f"call_{n}") for n in range(500)]
    with django_assert_num_queries(1):
        note(*items)
    with django_assert_num_queries(1):
        note(*(Repeated(each.pk, f"call_{n}", n % 2 == 0) for n in range(500) for each in (acme, other)))
    with django_assert_num_queries(0):
        note()


def test_i16_another_organization_s_log_says_nothing(acme, other):
    note(rejected(acme, "call_1"), Repeated(acme.pk, "call_2", False))
    assert intake_log.of_call(other.pk, "call_1").is_empty
    assert intake_log.of_call(other.pk, "call_2").is_empty
    assert intake_log.open_rejections(other.pk, since=NOW) == []


def test_a_rejection_is_open_until_its_call_is_recorded(acme, priced, now):
    note(rejected(acme, "call_1"), rejected(acme, "call_2"), now=now)
    assert intake_log.count_open_rejections(acme.pk, since=now) == 2
    assert ingestion.record([raw(call_object(call_id="call_1"))], now=now)[0].status == "recorded"
    assert [each.call_id for each in intake_log.open_rejections(acme.pk, since=now)] == ["call_2"]
    assert intake_log.count_open_rejections(acme.pk, since=now) == 1
    assert intake_log.count_open_rejections(acme.pk, since=now + HOUR) == 0


def test_the_log_forgets_after_a_while(acme, settings):
    note(rejected(acme, "call_1"), Repeated(acme.pk, "call_2", False))
    note(rejected(acme, "call_3"), now=NOW + settings.INTAKE_KEPT)
    assert intake_log.prune(now=NOW + settings.INTAKE_KEPT) == 0
    assert intake_log.prune(now=NOW + settings.INTAKE_KEPT + HOUR, limit=1) == 2
    assert [each.call_id for each in Rejection.objects.all()] == ["call_3"]
