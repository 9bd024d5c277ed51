"""Sums by metadata against the calls themselves: complete at every moment, however they were cut into slices."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.usage.conftest import call_object
from usage import calls, metadata_usage, rollups, tasks
from usage.calls import Filters
from usage.metadata_usage import OTHERS
from usage.models import Call, CallDetail, DailyMetadataUsage, MetadataKey

pytestmark = pytest.mark.django_db
START = datetime(2026, 9, 25, tzinfo=UTC)
DAYS = {"starts_on": date(2026, 9, 1), "ends_on": date(2026, 10, 31)}
VALUES = ["spring", "autumn", "", 7, True, None, {"a": 1}, ["x"], "x" * 101, ..., ...]


@pytest.fixture
def many(priced, acme, other, record, settle):
    """Three hundred calls of ten days with every kind of value, half of them settled in one go, half one by one."""
    rng = random.Random(6)
    for organization in (acme, other):
        items = []
        for number in range(300):
            value = rng.choice(VALUES)
            metadata = {"other": "thing"} if value is ... else {"campaign": value, "other": "thing"}
            items.append(
                call_object(
                    f"call_{number:03}",
                    organization=organization.reference,
                    start_timestamp=(START + timedelta(minutes=rng.randrange(14_400))).isoformat(),
                    end_timestamp=...,
                    metadata=rng.choice([metadata, metadata, ... if value is ... else metadata]),
                )
            )
        record(*items[:200])
        settle(organization)
        record(*items[200:])
        settle(organization)
    return acme


def tracked(organization, now, key="campaign", starts_on=DAYS["starts_on"]):
    return metadata_usage.track(organization=organization, key=key, starts_on=starts_on, now=now)


def count_all(key, limit=metadata_usage.SLICE):
    while metadata_usage.count(key.pk, limit=limit):
        pass
    key.refresh_from_db()


def rows(key):
    columns = ("date", "kind", "value", "calls", "duration_ms", "micros")
    return list(DailyMetadataUsage.objects.filter(key=key).order_by(*columns[:3]).values_list(*columns))


def test_i09_the_parts_add_up_to_the_total_and_are_those_of_the_calls(many, now):
    key = tracked(many, now)
    count_all(key)
    parts = {part.value: part for part in metadata_usage.totals(key, **DAYS)}
    total = rollups.total(many.pk, **DAYS)
    assert sum(part.micros for part in parts.values()) == total.micros
    assert sum(part.calls for part in parts.values()) == total.calls == 300
    assert sum(part.duration_ms for part in parts.values()) == total.duration_ms
    wanted: Counter[object] = Counter()
    details = {detail.id: detail.metadata for detail in CallDetail.objects.filter(organization=many)}
    for call in Call.objects.filter(organization=many):
        value = details.get(call.id, {}).get("campaign")
        match value:
            case None:
                wanted[None] += call.amount_micros
            case dict() | list():
                wanted[OTHERS] += call.amount_micros
            case bool():
                wanted["true"] += call.amount_micros
            case _:
                wanted[OTHERS if len(str(value)) > 100 else str(value)] += call.amount_micros
    assert {value: part.micros for value, part in parts.items()} == dict(wanted)
    assert set(wanted) == {None, OTHERS, "", "spring", "autumn", "7", "true"}
    days = metadata_usage.by_day(key, **DAYS, values=["spring"])
    assert sum(days.values()) == total.micros
    assert sum(micros for (_, value), micros in days.items() if value == "spring") == wanted["spring"]


@pytest.mark.parametrize("limit", [1, 7, 150])
def test_i08_the_size_of_slices_changes_nothing(many, now, limit, monkeypatch):
    monkeypatch.setattr(metadata_usage, "MOST_VALUES", 3)
    key = tracked(many, now)
    count_all(key)
    at_once = rows(key)
    metadata_usage.untrack(organization=many, key="campaign")
    again = tracked(many, now)
    count_all(again, limit)
    assert rows(again) == at_once
    assert len({value for _, kind, value, *_ in at_once if kind == 1}) == 3


def test_i06_counting_to_the_end_twice_changes_nothing(many, now):
    key = tracked(many, now)
    count_all(key)
    before = rows(key)
    assert metadata_usage.progress(key).is_done
    count_all(key)
    assert rows(key) == before
    assert metadata_usage.behind(limit=10) == []


def test_what_is_settled_later_is_added(many, now, record, settle):
    key = tracked(many, now)
    count_all(key)
    item = call_object("late", start_timestamp="2026-10-08T00:00:00Z", end_timestamp=..., metadata={"campaign": "late"})
    record(item)
    settle(many)
    assert metadata_usage.behind(limit=10) == [key.pk]
    assert metadata_usage.progress(key) == (300, 301)
    tasks.count_metadata(key.pk)
    assert {part.value: part.calls for part in metadata_usage.totals(key, **DAYS)}["late"] == 1


def test_a_key_counts_from_its_first_day_on_and_skips_the_calls_before(many, now):
    starts_on = date(2026, 10, 1)
    key = tracked(many, now, starts_on=starts_on)
    count_all(key)
    parts = metadata_usage.totals(key, **DAYS)
    total = rollups.total(many.pk, starts_on=starts_on, ends_on=DAYS["ends_on"])
    assert sum(part.micros for part in parts) == total.micros < rollups.total(many.pk, **DAYS).micros
    future = tracked(many, now, key="other", starts_on=date(2026, 12, 1))
    assert metadata_usage.progress(future).is_done
    assert metadata_usage.count(future.pk) == 0


def test_a_key_is_counted_once_and_there_are_not_too_many(many, now, monkeypatch):
    key = tracked(many, now)
    assert tracked(many, now, starts_on=date(2026, 10, 1)) == key
    monkeypatch.setattr(metadata_usage, "MOST_KEYS", 1)
    with pytest.raises(metadata_usage.TooManyKeys):
        tracked(many, now, key="second")
    assert metadata_usage.untrack(organization=many, key="campaign")
    assert not metadata_usage.untrack(organization=many, key="campaign")
    assert (MetadataKey.objects.count(), DailyMetadataUsage.objects.count()) == (0, 0)


def test_i16_keys_and_sums_are_of_one_organization(many, other, now):
    ours, theirs = tracked(many, now), tracked(other, now)
    count_all(ours)
    assert rows(theirs) == []
    assert not metadata_usage.untrack(organization=other, key="nothing")
    assert [key.pk for key in metadata_usage.keys_of(many.pk)] == [ours.pk]
    metadata_usage.untrack(organization=other, key="campaign")
    assert rows(ours) != []


def test_keys_that_calls_have_are_found(many, other):
    names = dict(metadata_usage.seen_keys(many.pk))
    assert set(names) == {"campaign", "other"}
    assert names["other"] >= names["campaign"]


def test_a_list_is_filtered_by_a_value(many):
    found, _ = calls.page(many.pk, Filters(metadata_key="campaign", metadata_value="spring"), limit=300)
    wanted = CallDetail.objects.filter(organization=many, metadata__campaign="spring").values_list("id", flat=True)
    assert sorted(call.id for call in found) == sorted(wanted)
    assert wanted
    assert calls.page(many.pk, Filters(metadata_key="campaign' --", metadata_value="spring"))[0] == []
