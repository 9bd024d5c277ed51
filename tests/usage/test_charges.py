from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, transaction

from tests.charged import all_charges, the_charge
from tests.usage.conftest import call_object
from usage import charges
from usage.models import Call, CallKey, CallRange

pytestmark = pytest.mark.django_db


def test_settlement_numbers_charges_without_a_gap_in_the_order_of_their_start(priced, acme, record, settle):
    record(*[call_object(f"call_{n}", start_timestamp=1_770_000_000_000 - n, end_timestamp=...) for n in range(9)])
    assert settle(acme) == 9
    record(call_object("late", start_timestamp=1_769_000_000_000, end_timestamp=...))
    settle(acme)
    numbered = [(charge.sequence, charge.call.call_id) for charge in all_charges()]
    assert [sequence for sequence, _ in numbered] == list(range(1, 11))
    assert [call_id for _, call_id in numbered] == [*(f"call_{n}" for n in reversed(range(9))), "late"]


def test_zero_charges_are_numbered_too(priced, acme, record, settle):
    record(call_object(call_status="not_connected", duration_ms=0, products=[], end_timestamp=...))
    settle(acme)
    charge = the_charge()
    assert (charge.sequence, charge.amount_micros, charge.lines) == (1, 0, [])


def test_settling_what_is_settled_is_refused(priced, acme, record, settle):
    record(call_object())
    waiting = charges.waiting([acme.pk], 10)
    settle(acme)
    assert charges.waiting([acme.pk], 10) == {}
    with pytest.raises(charges.AlreadySettled), transaction.atomic():
        charges.settle([charges.Batch(acme.pk, waiting[acme.pk], 2, date(2026, 10, 1), "UTC")])


def test_i16_a_batch_of_another_organization_is_not_settled(priced, acme, other, record):
    record(call_object())
    with pytest.raises(charges.AlreadySettled), transaction.atomic():
        ranges = charges.waiting([acme.pk], 10)[acme.pk]
        charges.settle([charges.Batch(other.pk, ranges, 1, date(2026, 10, 1), "UTC")])


def test_the_lines_of_a_charge_add_up_to_it_and_say_what_they_are(priced, acme, record):
    record(call_object(add_ons=["post_call_analysis_gpt_4o"]))
    charge = the_charge()
    lines = charge.lines
    assert sum(line.micros for line in lines) == charge.amount_micros
    assert [(line.component, line.product, line.quantity, line.micros) for line in lines] == [
        ("platform", "platform", 97_000, 8_083),
        ("voice", "elevenlabs_tts", 97_000, 113_167),
        ("llm", "gpt_4o_mini", 97_000, 9_700),
        ("per_call", "post_call_analysis_gpt_4o", 1, 17_000),
    ]
    assert (lines[1].label, lines[1].unit, lines[1].rate_micros) == ("ElevenLabs", "minute", 70_000)


@pytest.mark.parametrize("change", [{"micros": 1}, {"first_sequence": 7}, {"billed_month": date(2026, 1, 1)}])
def test_i12_the_database_keeps_a_settled_charge(priced, acme, record, settle, change):
    record(call_object())
    settle(acme)
    with pytest.raises(DatabaseError), transaction.atomic():
        CallRange.objects.update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        CallRange.objects.all().delete()


def test_i12_the_database_keeps_calls_and_the_amounts_of_waiting_charges(priced, acme, record):
    record(call_object())
    for change in (
        lambda: Call.objects.update(duration_ms=1),
        lambda: Call.objects.all().delete(),
        lambda: Call.objects.update(amount_micros=1),
        lambda: Call.objects.update(line_micros=[1]),
        lambda: CallKey.objects.update(digest=UUID(int=0)),
        lambda: CallRange.objects.update(first_sequence=1),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


def test_f47_a_charge_keeps_the_day_of_its_call_whatever_month_it_is_billed_in(
    priced, make_organization, record, settle
):
    mumbai = make_organization("mumbai", time_zone="Asia/Kolkata")
    late = datetime(2026, 9, 30, 18, 29, tzinfo=UTC)
    times = [late, late + timedelta(minutes=1)]
    record(
        *[
            call_object(
                f"c{n}", organization="mumbai", start_timestamp=at.isoformat(), end_timestamp=..., duration_ms=1
            )
            for n, at in enumerate(times)
        ]
    )
    settle(mumbai)
    assert [charge.date for charge in all_charges()] == [
        date(2026, 9, 30),
        date(2026, 10, 1),
    ]


def test_organizations_in_which_charges_wait_are_found(priced, acme, other, record, settle):
    assert charges.organizations_waiting(10) == []
    record(call_object(), call_object(organization="other"))
    assert charges.organizations_waiting(10) == [acme.pk, other.pk]
    settle(acme)
    assert charges.organizations_waiting(10) == [other.pk]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_whose_turn_it_is_says_what_would_be_taken(priced, acme, other, record, limit):
    record(call_object("a"), call_object("b"), call_object("c", organization="other"))
    record(call_object("d"), call_object("e", organization="other"))
    asked = [other.pk, acme.pk]
    turn = charges.turn(asked, limit)
    assert turn == list(charges.waiting(asked, limit))
    assert turn == asked[: 1 if limit <= 2 else 2]


def test_it_is_nobodys_turn_where_nothing_waits(priced, acme, record, settle):
    record(call_object())
    settle(acme)
    assert charges.turn([acme.pk], 10) == []
