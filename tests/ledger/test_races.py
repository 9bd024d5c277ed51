"""Each verb of the ledger, done by eight connections at once, a hundred times: see `racing`."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now

from accounts.models import Letter
from billing_portal.ledger import (
    alerts,
    balances,
    bucket_claims,
    buckets,
    claims,
    collections,
    credit_notes,
    credits,
    limits,
    periods,
    reservations,
    reversals,
    settlement,
    totals,
    verification,
    welcome,
    write_offs,
)
from billing_portal.ledger.models import (
    Account,
    Bucket,
    BucketClaim,
    BucketEntry,
    Grant,
    Period,
    Reservation,
    SpendLimit,
    Transaction,
)
from tests.ledger import racing

pytestmark = pytest.mark.django_db(transaction=True)

OCTOBER = date(2026, 10, 1)
MICROS = 1_000_000


@pytest.fixture(autouse=True)
def _nothing_is_queued(monkeypatch):
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


@pytest.fixture
def trials():
    return racing.TRIALS


@pytest.fixture
def organizations(now, trials):
    """Those of the trials, and as many for the trials in which nothing holds the eight apart."""
    return racing.organizations(now, 2 * trials)


def give(organization, now, *, reference="given", micros=MICROS, **fields):
    fields = {"kind": Grant.Kind.GOODWILL, "reason": "Race", **fields}
    return credits.grant(organization=organization, micros=micros, reference=reference, now=now, **fields)


def give_all(organizations, now, **fields):
    with transaction.atomic():
        return {organization.pk: give(organization, now, **fields) for organization in organizations}


def credit_of(organization, now):
    return balances.balance(Account.objects.get(organization=organization), now=now).credit_micros


def owed_by(organization):
    return Account.objects.get(organization=organization).accrued_micros


def posted(organization, kind):
    return Transaction.objects.filter(organization=organization, kind=kind)


def refusals(answers):
    return Counter(type(answer) for answer in answers if isinstance(answer, Exception))


# ── Credit ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("credits.grant")
@racing.FEW_OR_ALL
def test_f01_i06_a_grant_is_given_once_a_reference(organizations, now):
    """Four references, two connections each."""

    def act(organization, number):
        return give(organization, now, reference=f"r{number % 4}")

    def law(organization, answers):
        given = Grant.objects.filter(organization=organization)
        assert sorted(grant.reference for grant in given) == ["r0", "r1", "r2", "r3"]
        assert answers == [*given.order_by("reference")] * 2
        assert credit_of(organization, now) == 4 * MICROS

    racing.prove(organizations, act, law)


@racing.of("reversals.reverse_grant")
@racing.FEW_OR_ALL
def test_f01_i01_what_is_left_of_a_grant_is_taken_back_once(organizations, now):
    """Two people want it back, and each sends it four times."""
    grants = give_all(organizations, now)

    def act(organization, number):
        what = {"grant_id": grants[organization.pk].pk, "reason": "Race", "reference": f"back {number % 2}"}
        return reversals.reverse_grant(organization=organization, now=now, **what)

    def law(organization, answers):
        assert refusals(answers) == {reversals.NothingLeft: 4}
        assert {answer.pk for answer in answers if isinstance(answer, Transaction)} == {
            posted(organization, "reverse").get().pk
        }
        assert credit_of(organization, now) == 0

    racing.prove(organizations, act, law)


@racing.of("credits.expire")
@racing.FEW_OR_ALL
def test_f01_i01_credit_expires_once(organizations, now):
    later = now + timedelta(days=2)
    give_all(organizations, now, expires_at=later - timedelta(days=1))

    def act(organization, _):
        return credits.expire(organization.pk, now=later)

    def law(organization, answers):
        assert sorted(map(repr, answers)) == ["0"] * 7 + ["1"]
        assert posted(organization, "expire").count() == 1

    racing.prove(organizations, act, law)


@racing.of("welcome.give")
@racing.FEW_OR_ALL
def test_i13_a_welcome_credit_is_given_once(organizations, now, settings):
    settings.WELCOME_CREDITS_PER_DOMAIN = 1

    def act(organization, number):
        address = f"a{number}@{organization.reference}.example"
        return welcome.give(organization=organization, email=address, now=now)

    def law(organization, answers):
        grants = Grant.objects.filter(organization=organization)
        assert answers == [*grants] * 8
        assert credit_of(organization, now) == 10_000_000

    racing.prove(organizations, act, law, sabotage=without_lock_and_claim)


def without_lock_and_claim(patch):
    """Of a claim, which is a unique row, the second waits for the first: that alone would do."""
    racing.without_the_lock(patch)
    patch.setattr(welcome, "_claim", lambda *_: True)


@racing.of("welcome.claim_card")
@racing.FEW_OR_ALL
def test_i13_a_card_that_earned_anothers_welcome_credit_takes_it_back_once(organizations, now):
    with transaction.atomic():
        for organization in organizations:
            welcome.give(organization=organization, email=f"a@{organization.reference}.example", now=now)
        welcome.claim_card(organization=organizations[0], fingerprint="fp_1", now=now)
        first = Grant.objects.get(organization=organizations[0])
        assert first.remaining_micros

    def act(organization, _):
        return welcome.claim_card(organization=organization, fingerprint="fp_1", now=now)

    def law(organization, answers):
        if organization == first.organization:
            assert answers == [None] * 8
            return
        taken_back = posted(organization, "reverse")
        assert sorted(map(repr, answers)) == sorted(map(repr, [*taken_back, *[None] * 7]))
        assert taken_back.count() == 1
        assert credit_of(organization, now) == 0

    racing.prove(organizations, act, law)


# ── Usage ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("settlement.settle")
@racing.FEW_OR_ALL
def test_i04_each_call_is_settled_once_and_nobody_goes_away_empty(organizations, now):
    racing.record_calls(organizations, each=8, now=now)
    give_all(organizations, now, micros=MICROS // 10)

    def act(organization, _):
        return settlement.settle(organization.pk, now=now, limit=1)

    def law(organization, answers):
        assert list(map(repr, answers)) == ["1"] * 8
        found = totals.month(organization.pk, OCTOBER)
        assert found.gross_micros == MICROS // 10 + found.accrued_micros
        assert found.accrued_micros == owed_by(organization) > 0
        assert credit_of(organization, now) == 0

    racing.prove(organizations, act, law)


@racing.of("settlement.settle_many")
@racing.FEW_OR_ALL
def test_i04_many_settled_together_are_settled_once_each(organizations, trials, now):
    """Each trial has two organizations, and everyone names them in another order."""
    partners = {each.pk: partner for each, partner in zip(organizations, more(organizations, now), strict=True)}
    racing.record_calls([*organizations, *partners.values()], each=4, now=now)

    def act(organization, number):
        pair = [organization.pk, partners[organization.pk].pk]
        return settlement.settle_many(pair[:: -1 if number % 2 else 1], now=now)

    def law(organization, answers):
        assert refusals(answers) == {}
        assert sum(answers, Counter()) == {organization.pk: 4, partners[organization.pk].pk: 4}
        assert list(verification.verify(partners[organization.pk].pk)) == []

    racing.prove(organizations, act, law)


def more(organizations, now):
    return racing.organizations(now, len(organizations), prefix="partner")


@racing.of("periods.close")
@racing.FEW_OR_ALL
def test_i12_no_charge_enters_a_month_that_was_closed(organizations, now):
    """Half settle a call, half close its month and look at once what it came to; and that it stays."""
    racing.record_calls(organizations, each=4, now=now)
    november = now.replace(month=11)
    with transaction.atomic():
        for organization in organizations:  # the first call opens the month, so that all find it open
            settlement.settle(organization.pk, now=now, limit=1)

    def act(organization, number):
        if number % 2:
            periods.close(organization.pk, OCTOBER, now=november)
            return totals.month(organization.pk, OCTOBER).gross_micros
        return settlement.settle(organization.pk, now=november, limit=1)

    def law(organization, answers):
        assert Period.objects.get(organization=organization, month=OCTOBER).closed_at == november
        assert sorted(map(repr, answers[::2])) == ["0", "1", "1", "1"]
        assert set(answers[1::2]) == {totals.month(organization.pk, OCTOBER).gross_micros}

    racing.prove(organizations, act, law)


# ── Debts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@racing.of("collections.collect")
@racing.FEW_OR_ALL
def test_f01_i13_a_payment_is_collected_once_a_reference(organizations, now):
    racing.use(organizations, 1, now=now)
    cent = 10_000

    def act(organization, number):
        amounts = {"accrued_micros": (number % 2 + 1) * cent, "paid_micros": (number % 2 + 1) * cent}
        return collections.collect(organization=organization, reference=f"in_{number % 2}", now=now, **amounts)

    owed = owed_by(organizations[0])

    def law(organization, answers):
        assert answers == [*posted(organization, "collect").order_by("reference")] * 4
        assert posted(organization, "collect").count() == 2
        assert owed_by(organization) == owed - 3 * cent

    racing.prove(organizations, act, law)


@racing.of("reversals.reverse")
@racing.FEW_OR_ALL
def test_f01_i01_a_payment_is_undone_once(organizations, now):
    """Two people undo it, and each sends it four times."""
    cent = {"accrued_micros": 10_000, "paid_micros": 10_000}
    with transaction.atomic():
        paid = {
            organization.pk: collections.collect(organization=organization, reference="in_1", now=now, **cent)
            for organization in organizations
        }

    def act(organization, number):
        what = {"transaction_id": paid[organization.pk].pk, "reason": "Race", "reference": f"undo {number % 2}"}
        return reversals.reverse(organization=organization, now=now, **what)

    def law(organization, answers):
        assert refusals(answers) == {reversals.AlreadyReversed: 4}
        assert {answer for answer in answers if isinstance(answer, Transaction)} == {*posted(organization, "reverse")}
        assert owed_by(organization) == 0

    racing.prove(organizations, act, law)


@racing.of("write_offs.forgive")
@racing.FEW_OR_ALL
def test_i04_no_more_is_forgiven_than_is_owed(organizations, now):
    """Each of eight wants to forgive a third."""
    racing.use(organizations, 1, now=now)
    third = owed_by(organizations[0]) // 3

    def act(organization, number):
        what = {"month": OCTOBER, "micros": third, "reason": "Race", "reference": f"w{number}"}
        return write_offs.forgive(organization=organization, now=now, **what)

    def law(organization, answers):
        assert refusals(answers) == {write_offs.MoreThanOwed: 5}
        assert posted(organization, "write_off").count() == 3
        assert 0 <= owed_by(organization) < third

    racing.prove(organizations, act, law)


@racing.of("write_offs.write_off")
@racing.FEW_OR_ALL
def test_f01_i06_a_debt_is_written_off_once(organizations, now):
    racing.use(organizations, 1, now=now)
    quarter = owed_by(organizations[0]) // 4

    def act(organization, number):
        what = {"month": OCTOBER, "micros": quarter, "debt": "in_1", "reason": "Race", "reference": f"w{number % 2}"}
        return write_offs.write_off(organization=organization, now=now, **what)

    def law(organization, answers):
        assert refusals(answers) == {write_offs.AlreadyGivenUp: 4}
        assert posted(organization, "write_off").count() == 1
        assert {answer for answer in answers if isinstance(answer, Transaction)} == {*posted(organization, "write_off")}

    racing.prove(organizations, act, law)


# ── Payments that went back ───────────────────────────────────────────────────────────────────────────────────────────


@racing.of("claims.claim_credit")
@racing.FEW_OR_ALL
def test_f01_f38_credit_whose_payment_went_back_is_claimed_once(organizations, now):
    grants = give_all(organizations, now)

    def act(organization, _):
        amounts = {"claimed_micros": MICROS // 4, "held_micros": MICROS // 2}
        what = {"grant_id": grants[organization.pk].pk, "subject": "payment", "reason": "Race"}
        return claims.claim_credit(organization=organization, now=now, **amounts, **what)

    def law(organization, answers):
        assert refusals(answers) == {}
        (claim,) = posted(organization, "claim")
        assert answers.count(claim) == 1
        assert answers.count(None) == 7
        assert credit_of(organization, now) == MICROS // 2

    racing.prove(organizations, act, law)


@racing.of("claims.claim_debt")
@racing.FEW_OR_ALL
def test_f01_f38_usage_whose_payment_went_back_is_owed_again_once(organizations, now):
    def act(organization, _):
        amounts = {"owed_micros": MICROS, "uncredited_micros": 0}
        return claims.claim_debt(organization=organization, subject="payment", reason="Race", now=now, **amounts)

    def law(organization, answers):
        assert refusals(answers) == {}
        (claim,) = posted(organization, "claim")
        assert answers.count(claim) == 1
        assert answers.count(None) == 7
        assert owed_by(organization) == MICROS

    racing.prove(organizations, act, law)


@racing.of("credit_notes.lower")
@racing.FEW_OR_ALL
def test_f01_i13_a_credit_note_lowers_a_debt_once(organizations, now):
    """Two notes of one bill, each told four times."""
    racing.use(organizations, 1, now=now)
    owed, cent = owed_by(organizations[0]), 10_000

    def act(organization, number):
        what = {"debt_micros": (number % 2 + 1) * cent, "paid_micros": 0, "reason": "Race"}
        return credit_notes.lower(organization=organization, reference=f"cn_{number % 2}", now=now, **what)

    def law(organization, answers):
        assert answers == [*posted(organization, "credit_note").order_by("reference")] * 4
        assert owed_by(organization) == owed - 3 * cent

    racing.prove(organizations, act, law)


# ── Caps, reservations, alerts ────────────────────────────────────────────────────────────────────────────────────────


@racing.of("limits.set")
@racing.FEW_OR_ALL
def test_i06_the_same_cap_set_eight_times_is_set_once(organizations, now):
    def act(organization, _):
        return limits.set(organization.pk, limits.Terms(cap_micros=MICROS), by=None, now=now)

    def law(organization, answers):
        assert SpendLimit.objects.filter(organization=organization).count() == 1
        assert len({answer.pk for answer in answers}) == 1

    racing.prove(organizations, act, law)


@racing.of("reservations.reserve")
@racing.FEW_OR_ALL
def test_i03_a_cap_is_not_overshot_and_what_fits_is_not_refused(organizations, now):
    """Three of eight fit."""
    with transaction.atomic():
        for organization in organizations:
            limits.set(organization.pk, limits.Terms(cap_micros=3 * MICROS), by=None, now=now)

    def act(organization, number):
        return reserve(organization, now, reference=f"by {number}")[0]

    def law(organization, answers):
        assert refusals(answers) == {reservations.SpendRefused: 5}
        assert Reservation.objects.filter(organization=organization).count() == 3

    racing.prove(organizations, act, law)


@racing.of("reservations.reserve")
@racing.FEW_OR_ALL
def test_i06_the_same_reservation_eight_times_is_one(organizations, now):
    def act(organization, _):
        return reserve(organization, now)[1]

    def law(organization, answers):
        assert sorted(map(repr, answers)) == ["False"] * 7 + ["True"]
        assert Reservation.objects.filter(organization=organization).count() == 1

    racing.prove(organizations, act, law)


@racing.of("reservations._end")
@racing.FEW_OR_ALL
def test_i14_a_reservation_is_used_or_released_and_never_both(organizations, now):
    with transaction.atomic():
        for organization in organizations:
            reserve(organization, now)

    def act(organization, number):
        verb = reservations.release if number % 2 else reservations.use
        return verb(organization.pk, "call").state

    def law(organization, answers):
        ended = Reservation.objects.get(organization=organization)
        assert ended.state in {"used", "released"}
        assert refusals(answers) == {reservations.ReservationEnded: 4}
        assert answers.count(ended.state) == 4

    racing.prove(organizations, act, law, sabotage=without_lock_and_condition)


@racing.of("reservations.expire")
@racing.FEW_OR_ALL
def test_i14_what_is_over_is_expired_whoever_comes_first(organizations, now):
    """The sweep, and a call that is reported too late."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    over = {"reference": "call", "amount_micros": MICROS, "currency": "USD", "lasts_seconds": 60}

    def prepare(organization):
        over_at = {"created_at": began, "expires_at": began + timedelta(minutes=1)}
        Reservation.objects.create(organization=organization, **over, **over_at)

    def act(organization, number):
        return reservations.use(organization.pk, "call") if number % 2 else reservations.expire()

    def law(organization, answers):
        ended = Reservation.objects.get(organization=organization)
        assert (ended.state, ended.ended_at) == ("expired", ended.expires_at)
        assert refusals(answers) == {reservations.ReservationExpired: 4}
        assert sum(answers[::2]) <= 1

    racing.prove(organizations, act, law, sabotage=without_lock_and_condition, prepare=prepare)


def reserve(organization, now, *, reference="call"):
    return reservations.reserve(organization.pk, reservations.Wish(reference, MICROS, 600), now=now)


def without_lock_and_condition(patch):
    """A reservation is ended by an UPDATE of what is open: that alone would do."""

    def ended(reservation, state):
        Reservation.objects.filter(pk=reservation.pk).update(state=state, ended_at=Now())
        reservation.refresh_from_db()
        return reservation

    def expired(reservation):
        is_due = Reservation.objects.filter(pk=reservation.pk, state="open", expires_at__lte=Now()).exists()
        return ended(reservation, "expired") if is_due else reservation

    racing.without_the_lock(patch)
    patch.setattr(reservations, "_move", ended)
    patch.setattr(reservations, "_expire_if_due", expired)


@racing.of("alerts._raise_passed")
@racing.FEW_OR_ALL
def test_i06_an_alert_is_told_once(organizations, now):
    racing.use(organizations, 1, now=now)
    cap = owed_by(organizations[0]) * 100 // 85
    with transaction.atomic():
        for organization in organizations:
            alerts.set(organization.pk, alerts.Terms(recipients=("finance@acme.example",)), by=None, now=now)
            SpendLimit.objects.create(organization=organization, cap_micros=cap, set_at=now)

    def act(organization, _):
        return [alert.percent for alert in alerts.check(organization.pk, now=now)]

    def law(organization, answers):
        assert sorted(map(repr, answers)) == ["[80]"] + ["[]"] * 7
        assert Letter.objects.filter(organization=organization).count() == 1

    racing.prove(organizations, act, law)


# ── Buckets ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def terms(now, *, size=100):
    return buckets.Terms(("resolution",), size, 89 * MICROS, now, now + timedelta(days=365))


def units(organization):
    return {
        each.reference: (each.size, each.remaining_units) for each in Bucket.objects.filter(organization=organization)
    }


@racing.of("buckets.add")
@racing.FEW_OR_ALL
def test_f01_i13_a_bucket_is_opened_once_a_payment(organizations, now):
    """Two payments, four connections each: the webhook, sent three times, and the redirect."""

    def act(organization, number):
        return buckets.add(organization.pk, terms(now), reference=f"paid {number % 2}", now=now)

    def law(organization, answers):
        opened = Bucket.objects.filter(organization=organization).order_by("reference")
        assert answers == [*opened] * 4
        assert units(organization) == {"paid 0": (100, 100), "paid 1": (100, 100)}

    racing.prove(organizations, act, law)


@racing.of("buckets.upgrade")
@racing.FEW_OR_ALL
def test_f50_each_unit_is_carried_into_one_larger_bucket(organizations, now):
    """Two upgrades of one bucket, each told four times: one of them finds all its units, the other none."""
    first = {each.pk: buckets.add(each.pk, terms(now), reference="paid", now=now) for each in organizations}

    def act(organization, number):
        what = {"units": 50, "price_micros": MICROS, "reference": f"upgrade {number % 2}"}
        return buckets.upgrade(organization.pk, first[organization.pk].pk, now=now, **what)

    def law(organization, answers):
        assert not refusals(answers)
        found = units(organization)
        assert found.pop("paid") == (100, 0)
        assert sorted(found) == ["upgrade 0", "upgrade 1"]
        assert sorted(found.values()) == [(50, 50), (150, 150)]

    racing.prove(organizations, act, law)


@racing.of("buckets.expire")
@racing.FEW_OR_ALL
def test_f50_i03_what_is_left_of_a_bucket_expires_once(organizations, now):
    for each in organizations:
        buckets.add(each.pk, terms(now), reference="paid", now=now)
    later = now + timedelta(days=365)

    def act(organization, _):
        return buckets.expire(organization.pk, now=later)

    def law(organization, answers):
        assert sorted(map(repr, answers)) == ["0"] * 7 + ["1"]
        assert units(organization) == {"paid": (100, 0)}
        assert list(BucketEntry.objects.filter(organization=organization, kind="expired").values_list("units")) == [
            (-100,)
        ]

    racing.prove(organizations, act, law)


@racing.of("bucket_claims.follow")
@racing.FEW_OR_ALL
def test_f38_a_bucket_whose_payment_went_back_is_emptied_once(organizations, now):
    """The webhook, sent eight times: one finds what has changed, the others nothing."""
    first = {each.pk: buckets.add(each.pk, terms(now), reference="paid", now=now) for each in organizations}
    told = {"paid_micros": 89 * MICROS, "claimed_micros": 89 * MICROS, "held_micros": 0, "reason": "Refunded"}

    def act(organization, number):
        return bucket_claims.follow(bucket=first[organization.pk], **told, now=now)

    def law(organization, answers):
        assert not refusals(answers)
        assert sorted(each.units for each in answers if each is not None) == [100]
        assert units(organization) == {"paid": (100, 0)}
        assert BucketClaim.objects.get(organization=organization).entries.get().units == -100

    racing.prove(organizations, act, law)
