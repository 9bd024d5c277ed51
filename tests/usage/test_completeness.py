"""The completeness seal: what arrived, what is missing, and that neither order nor batches nor folding change it."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from tests.conftest import NOW
from usage import completeness
from usage.completeness import GRACE, Arrival, Gap, Seal
from usage.models import SequenceNote, SequenceRange

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def note(organization: Organization, numbers: Iterable[int], *, source: str = "eu-1", now: datetime = NOW) -> None:
    """Let calls arrive; number n was over n seconds after midnight."""
    midnight = NOW.replace(hour=0, minute=0)
    arrivals = [Arrival(organization.pk, source, n, midnight + timedelta(seconds=n)) for n in numbers]
    completeness.note(arrivals, now=now)


def seal(organization: Organization, *, now: datetime = NOW + timedelta(hours=1)) -> Seal:
    return completeness.seal(organization.pk, now=now)


def ended(number: int) -> datetime:
    return NOW.replace(hour=0, minute=0) + timedelta(seconds=number)


def test_without_numbers_there_is_nothing_to_seal(acme):
    assert seal(acme).sources == []
    assert seal(acme).complete_to is None


def test_consecutive_numbers_are_complete_to_the_end_of_the_last(acme):
    note(acme, range(1, 1001))
    note(acme, range(1001, 1501))
    (source,) = seal(acme).sources
    assert (source.first, source.last, source.received, source.gaps) == (1, 1500, 1500, [])
    assert seal(acme).complete_to == ended(1500)


def test_a_gap_is_named_with_its_neighbours_and_since_when(acme):
    note(acme, range(1, 1042))
    note(acme, range(1045, 1050), now=NOW + 3 * MINUTE)
    (source,) = seal(acme).sources
    assert source.gaps == [Gap(after=1041, before=1045, since=NOW + 3 * MINUTE)]
    assert source.missing == 3
    assert source.complete_to == seal(acme).complete_to == ended(1041)


def test_a_gap_is_known_since_the_first_number_behind_it_arrived(acme):
    note(acme, [1], now=NOW)
    note(acme, [9], now=NOW + 2 * MINUTE)
    note(acme, [5], now=NOW + 7 * MINUTE)
    since = NOW + 2 * MINUTE
    assert [gap.since for gap in seal(acme).sources[0].gaps] == [since, since]


def test_what_is_still_on_its_way_is_no_gap_but_not_complete_either(acme):
    note(acme, [1, 2, 5])
    (source,) = seal(acme, now=NOW + GRACE - timedelta(seconds=1)).sources
    assert (source.gaps, source.arriving, source.is_complete) == ([], 2, False)
    assert source.complete_to == ended(2)
    (source,) = seal(acme, now=NOW + GRACE).sources
    assert (source.missing, source.arriving) == (2, 0)


def test_a_late_number_closes_the_gap(acme):
    note(acme, [1, 3])
    completeness.fold()
    note(acme, [2])
    assert seal(acme).sources[0].is_complete
    completeness.fold()
    assert SequenceRange.objects.get().last == 3
    assert seal(acme).complete_to == ended(3)


def test_the_same_number_again_changes_nothing(acme):
    note(acme, [1, 2, 2, 3])
    note(acme, [2, 3])
    completeness.fold()
    note(acme, [1])
    assert seal(acme).sources[0].received == 3


def test_numbers_may_begin_anywhere_and_grow_downwards(acme):
    note(acme, [500, 501])
    note(acme, [499])
    (source,) = seal(acme).sources
    assert (source.first, source.missing) == (499, 0)


def test_a_rejected_call_counts_though_its_time_is_unknown(acme):
    completeness.note([Arrival(acme.pk, "eu-1", 1, None), Arrival(acme.pk, "eu-1", 2, ended(2))], now=NOW)
    completeness.note([Arrival(acme.pk, "eu-1", 3, None)], now=NOW)
    assert seal(acme).complete_to == ended(2)
    assert seal(acme).sources[0].is_complete


def test_sources_and_organizations_count_apart(acme, other):
    note(acme, [1, 2, 3], source="eu-1")
    note(acme, [7, 9], source="us-1")
    note(other, [2], source="eu-1")
    found = seal(acme)
    assert [(source.name, source.missing) for source in found.sources] == [("eu-1", 0), ("us-1", 1)]
    assert found.complete_to == ended(7)
    assert [(name, gap.after) for name, gap in found.gaps] == [("us-1", 7)]
    assert seal(other).complete_to == ended(2)


def test_a_batch_is_one_statement_and_nothing_is_none(acme, django_assert_num_queries):
    with django_assert_num_queries(1):
        note(acme, [*range(1, 500), *range(600, 1101)])
    assert SequenceNote.objects.count() == 2
    with django_assert_num_queries(0):
        completeness.note([], now=NOW)


# ── Any order, any batches, folded at any time ────────────────────────────────────────────────────────────────────────

NUMBERS = st.lists(st.lists(st.integers(1, 60), max_size=8), min_size=1, max_size=8)


@given(batches=NUMBERS, folds=st.sets(st.integers(0, 7)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_i08_the_seal_is_that_of_the_set_of_numbers(acme, batches, folds):
    SequenceNote.objects.all().delete()
    SequenceRange.objects.all().delete()
    arrived: set[int] = set()
    for position, numbers in enumerate(batches):
        note(acme, numbers)
        arrived.update(numbers)
        if position in folds:
            completeness.fold()
        live = seal(acme)
        missing = {n for n in range(min(arrived), max(arrived)) if n not in arrived} if arrived else set()
        assert {n for _, gap in live.gaps for n in range(gap.after + 1, gap.before)} == missing
        assert sum(source.received for source in live.sources) == len(arrived)
    before = seal(acme)
    completeness.fold()
    assert not SequenceNote.objects.exists()
    assert seal(acme) == before


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_between_senders_and_folders(acme):
    """Four senders and two folders at once; the folded ranges are then exactly what was sent."""
    start = threading.Barrier(6)

    def send(sender: int) -> None:
        start.wait()
        for batch in range(25):
            note(acme, range(batch * 40 + sender, batch * 40 + 40 + sender, 4))
        connection.close()

    def fold() -> None:
        start.wait()
        for _ in range(40):
            completeness.fold()
        connection.close()

    with ThreadPoolExecutor(6) as pool:
        for done in [*(pool.submit(send, sender) for sender in range(4)), *(pool.submit(fold) for _ in range(2))]:
            done.result()
    completeness.fold()
    (folded,) = SequenceRange.objects.all()
    assert (folded.first, folded.last, folded.missing) == (0, 999, 0)
    assert seal(acme).sources[0].received == 1000


@pytest.mark.django_db(transaction=True)
def test_a_request_that_is_rolled_back_leaves_no_number(acme):
    with pytest.raises(RuntimeError), transaction.atomic():
        note(acme, [1])
        raise RuntimeError
    assert seal(acme).sources == []


# ── Bounds ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_source_that_leaves_numbers_out_on_principle_keeps_a_bounded_number_of_gaps(acme, monkeypatch):
    monkeypatch.setattr(completeness, "MAX_RANGES", 10)
    note(acme, range(0, 100, 2))
    completeness.fold()
    assert SequenceRange.objects.count() == 10
    (source,) = seal(acme).sources
    assert (source.received, source.given_up, source.missing) == (50, 40, 9)
    note(acme, range(100, 140, 2))
    completeness.fold()
    (source,) = seal(acme).sources
    assert (SequenceRange.objects.count(), source.received) == (10, 70)
    assert source.received + source.given_up + source.missing == 139


def test_numbers_that_were_no_calls_are_given_up_once(acme):
    note(acme, [1, 2, 6, 9])
    assert completeness.give_up(acme.pk, "eu-1", first=1, last=5, now=NOW) == 3
    assert completeness.give_up(acme.pk, "eu-1", first=1, last=5, now=NOW) == 0
    completeness.fold()
    (source,) = seal(acme).sources
    assert (source.received, source.given_up, source.missing) == (4, 3, 2)
    assert source.complete_to == ended(6)


def test_i16_nothing_is_given_up_of_another_organization(acme, other):
    note(acme, [1, 3])
    assert completeness.give_up(other.pk, "eu-1", first=2, last=2, now=NOW) == 0
    assert completeness.give_up(acme.pk, "us-1", first=2, last=2, now=NOW) == 0
    assert seal(acme).missing == 1
