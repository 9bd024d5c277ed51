"""The same bytes again are known without being read; nobody can tell, but by the time it takes."""

from datetime import timedelta
from unittest import mock

import pytest
from django.db import transaction

from accounts import clock
from accounts.models import Organization
from tests.usage.conftest import call_object, raw
from usage import batches, call_objects, intake_log, tasks
from usage.models import Call, RecordedBatch, Redelivery

pytestmark = pytest.mark.django_db


def many(count=batches.FEWEST, **fields):
    return [raw(call_object(f"call_{number}", **fields)) for number in range(count)]


def unread():
    """Return a patch under which no call can be read."""
    return mock.patch.object(call_objects, "decode", side_effect=AssertionError("read again"))


def test_i06_the_same_bytes_again_are_duplicates_without_being_read(priced, acme, record):
    assert {answer.status for answer in record(*many())} == {"recorded"}
    with unread():
        again = record(*many())
    assert {answer.status for answer in again} == {"duplicate"}
    assert Call.objects.count() == len(again) == batches.FEWEST


def test_the_answers_and_the_log_are_those_of_reading_again(priced, acme, other, record, now):
    items = [*many(), raw(call_object("theirs", organization="other"))]
    record(*items)
    with unread():
        quick = record(*items, api_key_id=None)
    logged = list(Redelivery.objects.values_list("organization", "duplicates", "conflicts", "received_at"))
    RecordedBatch.objects.all().delete()
    Redelivery.objects.all().delete()
    assert record(*items) == quick
    assert list(Redelivery.objects.values_list("organization", "duplicates", "conflicts", "received_at")) == logged
    assert intake_log.of_call(acme.pk, "call_0").duplicates.times == 1


def test_i06_a_batch_read_a_second_time_is_known_from_then_on(priced, acme, record):
    record(*many())
    shuffled = many()[::-1]
    record(*shuffled)
    with unread():
        assert {answer.status for answer in record(*shuffled)} == {"duplicate"}


@pytest.mark.parametrize("odd", [b"{}", raw(call_object("call_0", duration_ms=1)), b'{"call_id": 7}'])
def test_f49_a_batch_of_which_an_item_was_refused_is_read_again(priced, acme, record, odd):
    items = [*many(), odd]
    first = record(*items)
    assert first[-1].status in {"rejected", "conflict"}
    assert record(*items)[-1] == first[-1]
    assert not RecordedBatch.objects.exists()


def test_i16_a_batch_of_one_organization_says_nothing_of_anothers(priced, acme, other, record):
    items = many(organization=...)
    record(*items, scope=acme)
    assert {answer.status for answer in record(*items, scope=other)} == {"recorded"}


def test_what_was_not_committed_is_not_known(priced, acme, record):
    with pytest.raises(RuntimeError), transaction.atomic():
        record(*many())
        raise RuntimeError
    assert {answer.status for answer in record(*many())} == {"recorded"}


def test_a_known_batch_of_an_organization_that_was_renamed_is_read_again(priced, acme, record):
    record(*many())
    Organization.objects.filter(pk=acme.pk).update(reference="acme-2")
    assert {answer.status for answer in record(*many())} == {"rejected"}


def test_a_few_calls_are_not_worth_remembering(priced, acme, record):
    record(*many(batches.FEWEST - 1))
    assert not RecordedBatch.objects.exists()


def test_where_an_item_ends_is_part_of_a_batch():
    one, other = [b"1"] * batches.FEWEST, [b"1"] * (batches.FEWEST - 1)
    assert batches.digest_of([*one, b"23", b"4"], None) != batches.digest_of([*one, b"2", b"34"], None)
    assert batches.digest_of(other, None) is None


def test_old_batches_are_forgotten_and_read_again(priced, acme, record, now, settings):
    record(*many())
    RecordedBatch.objects.update(recorded_at=clock.now() - settings.INTAKE_KEPT - timedelta(seconds=1))
    tasks.prune_intake()
    assert not RecordedBatch.objects.exists()
    assert {answer.status for answer in record(*many())} == {"duplicate"}
