import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts import api_keys
from billing_portal.ledger import accounts
from tests.charged import all_charges, the_charge
from tests.conftest import NOW
from tests.usage.conftest import call_object, raw
from usage import calls, completeness, ingestion, intake_log, prices, signals, storage
from usage.models import Call, CallDetail, CallKey, CallRange, Redelivery, Rejection, SequenceNote, UnratedCall

pytestmark = pytest.mark.django_db


def statuses(answers):
    return [answer.status for answer in answers]


def stored():
    """Return all that calls left behind, without what differs from run to run."""
    keys = CallKey.objects.order_by("organization_id", "key").values_list("organization_id", "key", "digest")
    calls = Call.objects.order_by("organization_id", "call_id").values_list(
        "organization_id", "call_id", "started_at", "duration_ms", "mix_id", "amount_micros", "line_micros"
    )
    return list(keys), list(calls)


def test_a_call_is_recorded_with_its_detail_and_its_charge(priced, acme, record, now):
    (answer,) = record(call_object(from_number="+1", metadata={"a": 1}, custom="kept"))
    assert (answer.index, answer.call_id, answer.status, answer.rated) == (0, "call_1", "recorded", True)
    call = Call.objects.get()
    assert (call.organization, call.duration_ms) == (acme, 97_000)
    detail = CallDetail.objects.get()
    assert (detail.from_number, detail.metadata, detail.extra) == ("+1", {"a": 1}, {"custom": "kept"})
    charge = the_charge()
    assert charge.received_at == now
    assert (charge.currency, charge.sequence, charge.amount_micros) == ("USD", None, 8_083 + 113_167 + 9_700)
    assert charge.amount_micros == sum(call.line_micros)


def test_i06_the_same_batch_twice_changes_nothing(priced, acme, record):
    items = [call_object(f"call_{number}", duration_ms=number) for number in range(50)]
    assert set(statuses(record(*items))) == {"recorded"}
    before = stored()
    assert set(statuses(record(*items))) == {"duplicate"}
    assert stored() == before


def test_f49_other_content_under_a_known_id_is_a_conflict_and_changes_nothing(priced, acme, record):
    record(call_object())
    before = stored()
    (answer,) = record(call_object(duration_ms=1))
    assert (answer.status, answer.field) == ("conflict", "call_id")
    assert stored() == before


def test_f49_an_id_stays_taken_whatever_time_the_second_copy_carries(priced, acme, record):
    record(call_object())
    later = call_object(start_timestamp=1_770_000_000_000, end_timestamp=1_770_000_097_000)
    assert statuses(record(later)) == ["conflict"]


def test_within_a_batch_the_first_of_an_id_counts(priced, acme, record):
    answers = record(call_object(), call_object(), call_object(duration_ms=1), call_object())
    assert statuses(answers) == ["recorded", "duplicate", "conflict", "duplicate"]
    assert Call.objects.get().duration_ms == 97_000


def test_one_wrong_item_keeps_no_other_from_being_recorded(priced, acme, record):
    answers = record(
        call_object("call_1"), call_object("call_2", duration_ms=-1), b'{"call_id": 5}', b"[]", call_object("call_3")
    )
    assert statuses(answers) == ["recorded", "rejected", "rejected", "rejected", "recorded"]
    assert [answer.index for answer in answers] == [0, 1, 2, 3, 4]
    assert (answers[1].call_id, answers[1].field) == ("call_2", "duration_ms")
    assert Call.objects.count() == 2


def test_an_unknown_organization_is_rejected_by_name(priced, acme, record):
    answers = record(call_object(organization="nobody"), call_object(organization=...))
    assert [(answer.status, answer.field) for answer in answers] == [("rejected", "organization")] * 2
    assert "nobody" in answers[0].reason


def test_i16_two_organizations_may_use_the_same_id(priced, acme, other, record):
    assert statuses(record(call_object(), call_object(organization="other"))) == ["recorded", "recorded"]
    assert {charge.call.organization_id for charge in all_charges()} == {acme.pk, other.pk}
    assert CallKey.objects.count() == CallRange.objects.count() == 2


def test_i16_within_a_scope_no_other_organization_can_be_named(priced, acme, other, record):
    answers = record(call_object(organization="other"), call_object(organization=...), scope=acme)
    assert statuses(answers) == ["rejected", "recorded"]
    assert Call.objects.get().organization == acme


def test_a_batch_of_more_than_five_thousand_is_refused(record):
    with pytest.raises(ingestion.TooManyItems):
        record(*[b"{}"] * 5001)


def test_an_empty_batch_is_answered_with_nothing(record):
    assert record() == []


def test_numbers_that_no_column_holds_are_rejected_alone(priced, acme, record):
    huge = raw(call_object("call_2", custom=1)).replace(b'"custom": 1', b'"custom": 1e' + b"9" * 6)
    digits = raw(call_object("call_3", custom=1)).replace(b'"custom": 1', b'"custom": ' + b"9" * 200_000)
    decimals = raw(call_object("call_5", custom=1)).replace(b'"custom": 1', b'"custom": 0.' + b"1" * 20_000)
    answers = record(call_object("call_1"), huge, digits, call_object("call_4"), decimals)
    assert statuses(answers) == ["recorded", "rejected", "rejected", "recorded", "rejected"]


def test_integers_past_64_bits_in_free_fields_are_kept_exactly(priced, acme, record):
    record(call_object(metadata={"n": 2**80}))
    assert CallDetail.objects.get().metadata == {"n": 2**80}


def new_prices(starts_at, product="gpt_9"):
    rates = [
        {"product": "platform", "component": "platform", "unit": "minute", "rate": "0.06"},
        {"product": product, "component": "llm", "unit": "minute", "rate": "0.6"},
    ]
    version = {"number": 2, "starts_at": starts_at, "rates": rates}
    book = {"reference": "parley-usd", "name": "List", "currency": "USD", "default": True, "versions": [version]}
    return {"books": [book]}


def test_an_unknown_product_is_recorded_unrated_listed_and_rated_when_its_price_arrives(priced, acme, record, now):
    answers = record(call_object("call_1", products=["platform", "gpt_9"]), call_object("call_2"))
    assert [(answer.status, answer.rated) for answer in answers] == [("recorded", False), ("recorded", True)]
    assert UnratedCall.objects.get().missing == ["gpt_9"]
    assert ingestion.rate_unrated(now=now) == 0
    starts_at = now + timedelta(hours=1)
    prices.load(new_prices(starts_at), now=now)
    assert ingestion.rate_unrated(now=now) == 0
    assert ingestion.rate_unrated(now=starts_at) == 1
    assert not UnratedCall.objects.exists()
    assert the_charge(call_id="call_1").amount_micros == 97_000 + 970_000
    assert ingestion.rate_unrated(now=starts_at) == 0


def test_more_waiting_calls_than_the_limit_are_rated_in_turns(priced, acme, record, now):
    record(*[call_object(f"call_{number}", products=["gpt_9"]) for number in range(7)])
    prices.load(new_prices(now + timedelta(hours=1)), now=now)
    later = now + timedelta(hours=1)
    assert [ingestion.rate_unrated(now=later, limit=3) for _ in range(4)] == [3, 3, 1, 0]


def test_a_repeated_unrated_call_is_a_duplicate(priced, acme, record):
    item = call_object(products=["gpt_9"])
    assert statuses([*record(item), *record(item)]) == ["recorded", "duplicate"]


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7, 20, 33], [59, 1]])
def test_i08_splitting_a_batch_changes_nothing(priced, acme, other, record, sizes):
    rng = random.Random(1)
    items = [
        call_object(f"call_{rng.randrange(40)}", organization=rng.choice(["acme", "other"]), duration_ms=number % 3)
        for number in range(60)
    ]
    whole, rest, answers = [], list(items), []
    for size in sizes:
        answers += record(*rest[:size])
        rest = rest[size:]
    first_of = {}
    for item in items:
        seen = first_of.setdefault((item["organization"], item["call_id"]), item)
        whole.append("recorded" if seen is item else "duplicate" if seen == item else "conflict")
    assert statuses(answers) == whole
    assert Call.objects.count() == len(all_charges()) == len(first_of)


@pytest.fixture
def with_books(acme, other, now):
    """Recording is followed by settlement here, as tasks run where they are queued."""
    for organization in (acme, other):
        accounts.open(organization=organization, now=now)


def test_listeners_are_told_after_the_commit(
    priced, acme, other, with_books, record, django_capture_on_commit_callbacks
):
    told = []

    def listen(organization_ids, **_):
        told.append(organization_ids)

    signals.calls_recorded.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            record(call_object(), call_object(organization="other"))
        with django_capture_on_commit_callbacks(execute=True):
            record(call_object())
    finally:
        signals.calls_recorded.disconnect(listen)
    assert told == [sorted([acme.pk, other.pk])]


def test_a_call_costs_few_queries_and_a_thousand_hardly_more(priced, acme, record):
    record(call_object("warm"))
    with CaptureQueriesContext(connection) as one:
        record(call_object())
    with CaptureQueriesContext(connection) as many:
        record(*[call_object(f"many_{number}") for number in range(200)])
    # Both with the savepoint and the look-ups of agents, kinds and mixes that a committed request does without.
    assert len(one) <= 14
    assert len(many) <= 20


def test_calls_are_stored_alike_one_by_one_and_by_the_hundred(priced, acme, other, record):
    odd = [
        call_object("plain"),
        call_object(
            "free", metadata={"a": [1.50, None, "\u00e9\\"]}, custom={"b": 10**30}, from_number="+1", to_number="+2"
        ),
        call_object("unrated", products=["nothing_known"]),
        call_object("endless", end_timestamp=..., llm_token_usage={"average": 5000, "num_requests": 3}),
        call_object("no_cost", duration_ms=0, end_timestamp=..., call_status="not_connected", products=[]),
    ]
    for item in odd:
        record(item)
    record(*[{**item, "organization": "other"} for item in odd], *[call_object(f"f{n}") for n in range(100)])
    columns = ["call_id", "started_at", "ended_at", "duration_ms", "amount_micros", "llm_tokens", "llm_requests"]
    columns += ["mix_id", "kind_id", "revision", "line_micros", "agent__name"]
    names = [item["call_id"] for item in odd]
    stored = Call.objects.filter(call_id__in=names).order_by("call_id")
    assert list(stored.filter(organization=acme).values_list(*columns)) == list(
        stored.filter(organization=other).values_list(*columns)
    )
    details = CallDetail.objects.values_list("from_number", "to_number", "metadata", "extra")
    assert list(details.filter(organization=acme)) == list(details.filter(organization=other)) != []
    keys = CallKey.objects.order_by("key").values_list("key", "digest", "started_at")
    assert list(keys.filter(organization=other)) == list(
        keys.filter(organization=acme, key__in=[storage.key_of(name) for name in names])
    )
    ranges = CallRange.objects.filter(organization=other).values_list("micros", "received_at", "time_zone")
    assert sum(micros for micros, *_ in ranges) == sum(
        call.amount_micros or 0 for call in Call.objects.filter(organization=acme, call_id__in=names)
    )


@pytest.mark.django_db(transaction=True)
def test_i06_the_same_batch_from_many_sides_at_once_is_recorded_once(priced, with_books, now):
    """Each side sends the same calls in an order of its own, so that locks taken in turn would deadlock."""
    items = [raw(call_object(f"call_{number}", organization=("acme", "other")[number % 2])) for number in range(300)]
    start = threading.Barrier(6)

    def post(seed):
        shuffled = random.Random(seed).sample(items, len(items))
        start.wait()
        try:
            return ingestion.record([msgspec.Raw(text) for text in shuffled], now=now)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        answers = [answer for answers in pool.map(post, range(6)) for answer in answers]
    assert statuses(answers).count("recorded") == 300
    assert statuses(answers).count("duplicate") == 1500
    assert Call.objects.count() == len(all_charges()) == 300


def test_i08_repeats_within_a_batch_are_held_against_what_is_recorded(priced, acme, record):
    known, other = call_object(), call_object(duration_ms=1)
    record(known)
    assert statuses(record(other, other, known)) == ["conflict", "conflict", "duplicate"]


def test_the_repeat_of_an_item_that_could_not_be_recorded_is_not_answered_as_recorded(priced, acme, record):
    huge = raw(call_object(custom=1)).replace(b'"custom": 1', b'"custom": 0.' + b"1" * 20_000)
    answers = record(huge, huge, call_object())
    assert [answer.status for answer in answers] == ["rejected", "rejected", "rejected"]
    assert statuses(record(call_object())) == ["recorded"]


# ── What is kept of items besides their calls ─────────────────────────────────────────────────────────────────────────


def test_what_becomes_of_every_item_is_logged(priced, acme, record, now):
    sound, other_content = call_object("call_1"), call_object("call_1", duration_ms=1, end_timestamp=...)
    wrong = call_object("call_2", duration_ms="long")
    record(sound, sound, other_content, wrong, call_object("call_3", organization="nobody"))
    record(sound)
    first = intake_log.of_call(acme.pk, "call_1")
    assert (first.rejection, first.duplicates.times, first.conflicts.times) == (None, 2, 1)
    second = intake_log.of_call(acme.pk, "call_2").rejection
    assert (second.field, second.index, second.times) == ("duration_ms", 3, 1)
    assert intake_log.of_call(acme.pk, "call_3").is_empty


def test_the_log_names_the_key_that_sent_an_item(priced, acme, record):
    key, _ = api_keys.issue(organization=None, name="Platform", scopes=["calls:write"], now=NOW)
    record(call_object("call_2", duration_ms="long"), api_key_id=key.pk)
    assert intake_log.of_call(acme.pk, "call_2").rejection.api_key == key


def test_a_sound_batch_without_numbers_leaves_nothing_in_the_log(priced, acme, record):
    record(call_object("call_1"), call_object("call_2"))
    assert not Rejection.objects.exists()
    assert not Redelivery.objects.exists()
    assert not SequenceNote.objects.exists()


@pytest.mark.parametrize(
    "item",
    [
        {"call_id": "nul \x00", "organization": "acme"},
        {"call_id": 7, "organization": "acme", "source": ["eu-1"], "source_sequence": True},
        {"organization": "acme", "metadata": {"\x00": "\x00"}, **call_object("call_1", organization="acme")},
        {"call_id": "call_1", "organization": "acme\x00", "source": "\x00" * 99, "source_sequence": -1},
        {"call_id": "", "organization": "acme", "source": "", "source_sequence": 10**30},
        {"call_id": "x" * 2000, "organization": "acme", "call_status": "\x00" * 2000},
        [],
        None,
    ],
)
def test_whatever_is_rejected_can_be_logged(priced, acme, record, item):
    answers = record(item, call_object("call_sound"))
    assert [answer.status for answer in answers] == ["rejected", "recorded"]


def test_numbers_of_all_items_of_a_known_organization_arrive(priced, acme, record, now):
    def numbered(number: object, call_id: str, **fields: object):
        return call_object(call_id, source="eu-1", source_sequence=number, **fields)

    record(
        numbered(1, "call_1"),
        numbered(2, "call_1"),  # the same call by another number: a duplicate
        numbered(3, "call_1", duration_ms=1),  # a conflict
        numbered(4, "call_2", duration_ms="long"),  # rejected
        numbered("5", "call_3"),  # rejected, and its number is none
        numbered(9, "call_4", organization="nobody"),
        numbered(6, "call_5"),
        call_object("call_6", source_sequence=7),
    )
    (source,) = completeness.seal(acme.pk, now=now + timedelta(hours=1)).sources
    assert (source.first, source.last, source.received) == (1, 6, 5)
    assert [(gap.after, gap.before) for gap in source.gaps] == [(4, 6)]
    assert source.complete_to == datetime.fromtimestamp(1_760_000_097, UTC)


def test_a_call_that_comes_again_by_another_number_is_a_duplicate(priced, acme, record):
    assert record(call_object("call_1", source="eu-1", source_sequence=1))[0].status == "recorded"
    for again in (call_object("call_1", source="us-1", source_sequence=7), call_object("call_1")):
        assert record(again)[0].status == "duplicate"
    assert calls.detail(calls.find(acme.pk, "call_1")).extra == {"source": "eu-1", "source_sequence": 1}


def test_f13_a_batch_that_fails_leaves_no_number_and_no_log(priced, acme, record, monkeypatch):
    monkeypatch.setattr(intake_log, "note", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        record(call_object("call_1", source="eu-1", source_sequence=1))
    assert calls.find(acme.pk, "call_1") is None
    assert not SequenceNote.objects.exists()
