"""Days priced anew: counted without a trace, let go ahead by another, then a revision a call, however often killed."""

import uuid
from collections import Counter
from datetime import date, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from accounts.models import Letter
from billing_portal.ledger import accounts, periods, settlement, totals
from billing_portal.ledger.models import Grant
from tests.usage.conftest import call_object
from tests.usage.test_corrections import LLM, PLATFORM, VOICE, assert_sound, at_once, load, net, price_of
from usage import calls, corrections, prices, rollups, tasks
from usage.backfills import plans, work
from usage.backfills.plans import Wish
from usage.models import Backfill, BackfillPart, Call, CallRevision, PriceVersion

pytestmark = pytest.mark.django_db

DAY = date(2025, 10, 9)  # of tests.usage.conftest.call_object
NOON = 1_760_011_200_000  # of that day, in UTC
MIDNIGHT = NOON + 12 * 3_600_000  # at its end
REASON = "The voice was billed at last year's price"


@pytest.fixture
def sam(make_user):
    return make_user("sam@desk.example", name="Sam Stone", is_staff=True)


@pytest.fixture
def tess(make_user):
    return make_user("tess@desk.example", name="Tess Tern", is_staff=True)


@pytest.fixture
def wrong(db, now):
    """Prices as they were in force: the platform too cheap, the voice too dear."""
    load(now - timedelta(days=1000), {PLATFORM: 100_000, VOICE: 90_000, LLM: 20_000})


@pytest.fixture
def right(wrong, now):
    """The version that should have been in force, which is only entered now."""
    rates = {PLATFORM: 160_000, VOICE: 50_000, LLM: 20_000}
    return load(now + timedelta(days=1), rates, number=2, asked=now)[0]


@pytest.fixture
def ask(right, sam, now):
    def ask(**changed):
        wish = Wish(**{"version": right, "starts_on": DAY, "ends_on": DAY, "reason": REASON, **changed})
        return plans.ask(wish, public_id=uuid.uuid4(), by=sam, now=now)

    return ask


def through(now):
    """Do all the work there is."""
    while work.go_on(now=now):
        pass


def calls_at(number, *, organization="acme", at=NOON, prefix="c", **fields):
    """Return so many calls, a minute apart, each with a length of its own."""
    return [
        call_object(
            f"{prefix}{n}",
            organization=organization,
            start_timestamp=at + n * 60_000,
            end_timestamp=...,
            **{"duration_ms": 30_000 + 7_777 * n, "products": [PLATFORM, VOICE, LLM], **fields},
        )
        for n in range(number)
    ]


def done(backfill, tess, now):
    """Count a backfill, let it go ahead, and do it."""
    through(now)
    plans.start(backfill.pk, by=tess, now=now)
    through(now)
    backfill.refresh_from_db()
    return backfill


def test_a_dry_run_says_to_the_micro_what_is_then_done(acme, other, ask, tess, record, settle, now):
    record(
        *calls_at(5), *calls_at(3, organization="other", products=[PLATFORM]), *calls_at(2, at=MIDNIGHT, prefix="next")
    )
    for organization in (acme, other):
        settle(organization)
    before = {each.pk: net(each, now) for each in (acme, other)}
    backfill = ask()
    through(now)
    backfill.refresh_from_db()
    assert (backfill.state, CallRevision.objects.count()) == ("counted", 0)
    part = backfill.parts.get(organization=acme)
    assert (part.calls, part.unpriced) == (5, 0)
    # The voice falls by 40,000 a minute and the platform rises by 60,000, so that each call costs more in all.
    assert (part.dearer, part.cheaper) == (5, 0)
    assert 0 < part.less_micros < part.more_micros
    assert plans.sums(backfill)["calls"] == 8
    done(backfill, tess, now)
    for organization in (acme, other):
        settle(organization)
        part = backfill.parts.get(organization=organization)
        assert (part.revised, part.charged_micros, part.given_back_micros) == (
            part.calls,
            part.more_micros,
            part.less_micros,
        )
        assert net(organization, now) - before[organization.pk] == part.net_micros
        assert_sound(organization)


def test_each_call_has_one_more_revision_that_says_why_and_the_days_beside_have_none(
    acme, ask, tess, record, settle, now
):
    record(
        *calls_at(2), *calls_at(1, at=MIDNIGHT, prefix="next"), *calls_at(1, at=MIDNIGHT - 86_400_001, prefix="before")
    )
    settle(acme)
    backfill = done(ask(), tess, now)
    made = CallRevision.objects.filter(organization=acme)
    assert {(each.origin, each.reason, each.author_id) for each in made} == {("backfill", REASON, backfill.pk)}
    assert Counter(made.values_list("revision", flat=True)) == {2: 2}
    found = calls.find(acme.pk, "c1")
    assert found.mix.price_version_id == backfill.price_version_id


def test_days_are_those_of_each_organizations_own_time_zone(acme, make_organization, ask, record, now):
    tokyo = make_organization("tokyo", time_zone="Asia/Tokyo")
    evening = NOON + 4 * 3_600_000  # 16:00 in UTC, the next day in Tokyo
    record(*calls_at(1, at=evening), *calls_at(1, at=evening, organization="tokyo"))
    assert [each.organization for each in ask().parts.all()] == [acme]
    assert [each.organization for each in ask(ends_on=DAY + timedelta(days=1)).parts.all()] == [acme, tokyo]


def test_f48_i12_a_closed_month_stays_and_the_open_one_bears_the_difference(acme, ask, tess, record, now):
    accounts.open(organization=acme, now=now.replace(year=2025, month=9, day=1))
    record(*calls_at(4))
    settlement.settle_all(acme.pk, now=now)
    october, november = date(2025, 10, 1), date(2025, 11, 1)
    periods.close(acme.pk, october, now=now)
    before = totals.month(acme.pk, october), list(Call.objects.order_by("id").values())
    backfill = done(ask(), tess, now)
    settlement.settle_all(acme.pk, now=now)
    part = backfill.parts.get()
    assert totals.month(acme.pk, october) == before[0]
    assert list(Call.objects.filter(revision=1).order_by("id").values()) == before[1]
    assert rollups.late_micros(acme.pk, november) == part.charged_micros > 0
    grants = Grant.objects.filter(kind="correction")
    assert sum(grants.values_list("amount_micros", flat=True)) == part.given_back_micros > 0
    assert REASON in grants[0].reason
    assert_sound(acme)


def test_i04_i17_it_meets_corrections_before_and_after_it(acme, ask, tess, record, settle, now):
    record(*calls_at(4))
    record(call_object("c0", correction=True, revision=1, start_timestamp=NOON, end_timestamp=..., duration_ms=90_000))
    record({**calls_at(2)[1], "correction": True, "revision": 1, "call_status": "cancelled"})
    settle(acme)
    done(ask(), tess, now)
    # A correction of what was priced anew keeps the prices that were chosen.
    fixed = {**calls_at(3)[2], "correction": True, "revision": 2, "duration_ms": 60_000}
    assert record(fixed)[0].status == "recorded"
    settle(acme)
    assert price_of("c2") == 160_000 + 50_000 + 20_000
    assert price_of("c1") == 0
    assert net(acme, now) == sum(price_of(f"c{n}") for n in range(4))
    assert_sound(acme)


def test_i08_the_size_of_chunks_changes_nothing(acme, other, right, sam, tess, record, settle, now, monkeypatch):
    for reference in ("acme", "other"):
        record(*calls_at(9, organization=reference))
        # Several calls that began in the same instant fill more than a chunk.
        same = [{**each, "call_id": f"s{n}", "start_timestamp": NOON} for n, each in enumerate(calls_at(5))]
        record(*[{**each, "organization": reference} for each in same])
    for organization, size in ((acme, 2), (other, 500)):
        settle(organization)
        monkeypatch.setattr(work, "REVISED_AT_ONCE", size)
        monkeypatch.setattr(work, "COUNTED_AT_ONCE", size)
        wish = Wish(right, DAY, DAY, REASON, [organization])
        done(plans.ask(wish, public_id=uuid.uuid4(), by=sam, now=now), tess, now)
        settle(organization)
    small, large = (
        BackfillPart.objects.values(
            "calls", "more_micros", "less_micros", "dearer", "revised", "charged_micros", "given_back_micros"
        ).get(organization=each)
        for each in (acme, other)
    )
    assert small == large
    assert small["revised"] == small["calls"] == 14
    assert net(acme, now) == net(other, now)
    assert_sound(acme)


def test_i06_the_same_backfill_again_finds_nothing_to_change(acme, ask, tess, record, settle, now):
    record(*calls_at(3))
    settle(acme)
    done(ask(), tess, now)
    again = done(ask(), tess, now)
    part = again.parts.get()
    assert (part.calls, part.more_micros, part.less_micros, part.revised) == (3, 0, 0, 0)
    assert CallRevision.objects.count() == 3


def test_what_its_prices_do_not_cover_stays_as_it_is(acme, ask, tess, record, settle, now):
    load(now - timedelta(days=100), {PLATFORM: 100_000, "old_voice": 10_000}, number=3, asked=now - timedelta(days=101))
    record(*calls_at(1), call_object("old", products=["old_voice"], start_timestamp=NOON, end_timestamp=...))
    record(call_object("unknown", products=["no_such"], start_timestamp=NOON, end_timestamp=...))
    settle(acme)
    before = price_of("old")
    part = done(ask(), tess, now).parts.get()
    assert (part.calls, part.unpriced, part.revised) == (3, 2, 1)
    assert price_of("old") == before
    assert calls.find(acme.pk, "unknown").revision == 1


# ── Who may, and what is refused ──────────────────────────────────────────────────────────────────────────────────────


def test_whoever_asked_cannot_let_it_go_ahead(acme, ask, sam, tess, record, now):
    record(*calls_at(1))
    backfill = ask()
    with pytest.raises(plans.NotNow):
        plans.start(backfill.pk, by=tess, now=now)
    through(now)
    with pytest.raises(plans.SamePerson):
        plans.start(backfill.pk, by=sam, now=now)
    with pytest.raises(IntegrityError, match="backfill_is_started_by_another"), transaction.atomic():
        Backfill.objects.filter(pk=backfill.pk).update(state="running", started_by=sam)
    through(now)
    assert CallRevision.objects.count() == 0


def test_the_second_person_is_asked_once_with_what_was_counted(acme, ask, record, now, settings):
    settings.STAFF_NOTICE_EMAILS = ["desk@vendor.example"]
    record(*calls_at(2))
    backfill = ask()
    through(now)
    letter = Letter.objects.get(to="desk@vendor.example")
    assert letter.subject == "Approval wanted: price 2 calls anew"
    for text in (REASON, "Sam Stone", f"/staff/backfills/{backfill.public_id}/"):
        assert text in letter.text


def test_prices_that_were_edited_after_the_count_are_refused_and_kept_once_it_runs(acme, ask, tess, record, now):
    record(*calls_at(1))
    first = ask()
    through(now)
    rates = {PLATFORM: 500_000, VOICE: 50_000, LLM: 20_000}
    load(now + timedelta(days=1), rates, number=2, asked=now)
    with pytest.raises(plans.PricesEdited):
        plans.start(first.pk, by=tess, now=now)
    second = ask()
    through(now)
    plans.start(second.pk, by=tess, now=now)
    assert PriceVersion.objects.get(number=2).is_used
    with pytest.raises(Exception, match="in force"):
        load(now + timedelta(days=1), {PLATFORM: 1}, number=2, asked=now)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ends_on": date(2026, 10, 15)}, "not over yet"),
        ({"starts_on": date(2025, 9, 1), "ends_on": date(2025, 9, 2)}, "None of these organizations has a call"),
    ],
)
def test_what_cannot_be_is_said(acme, ask, record, changed, said):
    record(*calls_at(1))
    with pytest.raises(plans.CannotBe, match=said):
        ask(**changed)
    assert not Backfill.objects.exists()


def test_prices_of_ones_own_are_kept_unless_the_organization_is_named(acme, other, ask, record, now):
    record(*calls_at(1), *calls_at(1, organization="other"))
    own = load_own(acme, now)
    assert [each.organization for each in ask().parts.all()] == [other]
    assert [each.organization for each in ask(organizations=[acme]).parts.all()] == [acme]
    assert [each.organization for each in ask(version=own).parts.all()] == [acme]
    with pytest.raises(plans.CannotBe, match="prices of another organization"):
        ask(version=own, organizations=[other])


def load_own(organization, now):
    version = {
        "number": 1,
        "starts_at": now - timedelta(days=1000),
        "rates": [{"component": "platform", "product": PLATFORM, "unit": "minute", "rate": "0.01"}],
    }
    book = {"reference": "own", "name": "Own", "currency": "USD", "organization": organization.reference}
    return prices.load({"books": [{**book, "versions": [version]}]}, now=now)[0]


def test_f27_a_form_sent_twice_asks_once(acme, right, sam, record, now):
    record(*calls_at(1))
    key, wish = uuid.uuid4(), Wish(right, DAY, DAY, REASON)
    assert {plans.ask(wish, public_id=key, by=sam, now=now).pk for _ in range(3)} == {Backfill.objects.get().pk}
    assert BackfillPart.objects.count() == 1


def test_what_was_asked_done_and_cancelled_stands(acme, ask, tess, record, settle, now):
    record(*calls_at(1))
    settle(acme)
    backfill = ask()
    for change in ({"reason": "Other"}, {"ends_on": DAY + timedelta(days=3)}, {"asked_by": tess}):
        with pytest.raises(DatabaseError), transaction.atomic():
            Backfill.objects.filter(pk=backfill.pk).update(**change)
    done(backfill, tess, now)
    for kept in (Backfill.objects, BackfillPart.objects):
        with pytest.raises(DatabaseError), transaction.atomic():
            kept.all().delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        Backfill.objects.update(state="running")
    with pytest.raises(DatabaseError), transaction.atomic():
        BackfillPart.objects.update(charged_micros=0)
    with pytest.raises(plans.NotNow):
        plans.cancel(backfill.pk, by=tess, now=now)


# ── What customers hear ───────────────────────────────────────────────────────────────────────────────────────────────


def test_who_reads_about_money_gets_one_mail_and_whom_it_does_not_concern_none(acme, other, ask, tess, record, now):
    record(*calls_at(3), *calls_at(2, organization="other", products=[LLM]))
    backfill = done(ask(), tess, now)
    part = backfill.parts.get(organization=acme)
    letter = Letter.objects.get(organization__isnull=False)
    assert (letter.to, letter.subject) == ("alice@acme.example", "3 calls of Acme Robotics were priced anew")
    assert REASON in letter.text
    assert f"/o/{acme.public_id}/usage/calls/?from=2025-10-09&to=2025-10-09" in letter.text
    assert [each.pk for each in plans.notices(acme, now=now)] == [part.pk]
    assert plans.notices(other, now=now) == []
    assert plans.notices(acme, now=now + plans.NOTICED_FOR) == []


def test_one_that_is_stopped_leaves_what_it_did_and_tells_of_it(acme, ask, sam, tess, record, settle, now, monkeypatch):
    monkeypatch.setattr(work, "REVISED_AT_ONCE", 2)
    record(*calls_at(5))
    settle(acme)
    backfill = ask()
    through(now)
    plans.start(backfill.pk, by=tess, now=now)
    work.go_on(now=now)
    plans.cancel(backfill.pk, by=sam, now=now)
    plans.cancel(backfill.pk, by=tess, now=now)
    through(now)
    assert CallRevision.objects.count() == 2
    part = BackfillPart.objects.get()
    assert (part.revised, part.done_at) == (2, now)
    assert Letter.objects.get(to="alice@acme.example").subject == "2 calls of Acme Robotics were priced anew"
    settle(acme)
    assert_sound(acme)
    assert (stopped := Backfill.objects.get()).cancelled_by == sam
    assert stopped.state == "cancelled"


# ── At once, and killed ───────────────────────────────────────────────────────────────────────────────────────────────


def test_f13_f20_a_chunk_that_dies_leaves_nothing_and_is_done_again_once(
    acme, ask, tess, record, settle, now, monkeypatch
):
    """Die after every step of a chunk in turn; what the transaction held is gone, and the next turn does it."""
    monkeypatch.setattr(work, "REVISED_AT_ONCE", 2)
    record(*calls_at(5))
    settle(acme)
    backfill = ask()
    through(now)
    plans.start(backfill.pk, by=tess, now=now)
    steps = [(corrections, "record"), (BackfillPart, "save"), (work, "_corrections"), (plans, "end")]
    for owner, name in steps:
        with monkeypatch.context() as patch:
            real = getattr(owner, name)

            def dies(*arguments, real=real, **options):
                real(*arguments, **options)
                raise KeyboardInterrupt

            patch.setattr(owner, name, dies)
            before = CallRevision.objects.count()
            while name == "end" and before < 5:  # the last chunk finds nothing left
                work.go_on(now=now)
                before = CallRevision.objects.count()
            with pytest.raises(KeyboardInterrupt), transaction.atomic():
                work.go_on(now=now)
            assert CallRevision.objects.count() == before, name
    through(now)
    settle(acme)
    assert Counter(CallRevision.objects.values_list("revision", flat=True)) == {2: 5}
    assert Letter.objects.filter(to="alice@acme.example").count() == 1
    part = BackfillPart.objects.get()
    assert (part.revised, part.looked_at, part.charged_micros) == (5, 5, part.more_micros)
    assert_sound(acme)


def test_f24_a_part_that_fails_is_set_aside_and_the_others_go_on(acme, other, ask, tess, record, now, monkeypatch):
    record(*calls_at(2), *calls_at(2, organization="other"))
    backfill = ask()
    through(now)
    plans.start(backfill.pk, by=tess, now=now)
    with monkeypatch.context() as patch:
        real = work._record

        def fails(part, *rest):
            if part.organization_id == acme.pk:
                raise RuntimeError("as if something were wrong with Acme")
            real(part, *rest)

        patch.setattr(work, "_record", fails)
        through(now)
    assert BackfillPart.objects.get(organization=acme).attempts == plans.MOST_ATTEMPTS
    assert BackfillPart.objects.get(organization=other).done_at == now
    backfill.refresh_from_db()
    assert backfill.state == "running"
    plans.start(backfill.pk, by=tess, now=now)
    through(now)
    backfill.refresh_from_db()
    assert (backfill.state, CallRevision.objects.count()) == ("done", 4)


@pytest.mark.django_db(transaction=True)
def test_f01_f49_workers_and_corrections_at_once_make_each_revision_once(
    acme, other, ask, tess, record, settle, now, monkeypatch
):
    monkeypatch.setattr(work, "REVISED_AT_ONCE", 3)
    record(*calls_at(20), *calls_at(20, organization="other"))
    backfill = ask()
    through(now)
    plans.start(backfill.pk, by=tess, now=now)
    fixed = [{**each, "correction": True, "revision": 1, "duration_ms": 5_000} for each in calls_at(20)[::3]]
    answers = at_once([*[lambda: through(now)] * 3, lambda: [record(each)[0].status for each in fixed]])
    through(now)
    assert set(answers[-1]) <= {"recorded", "conflict"}
    for organization in (acme, other):
        settle(organization)
        assert net(organization, now) == sum(price_of(f"c{n}", organization) for n in range(20))
        assert_sound(organization)
    by_backfill = CallRevision.objects.filter(origin="backfill")
    assert by_backfill.count() == 40 == sum(BackfillPart.objects.values_list("revised", flat=True))
    assert Letter.objects.filter(organization__isnull=False).count() == 2


def test_the_task_does_what_there_is_and_rests_while_settlement_is_behind(
    acme, ask, tess, record, now, monkeypatch, settings
):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    record(*calls_at(3))
    backfill = ask()
    settings.API_MOST_WAITING_CALLS = 1
    tasks.continue_backfills()
    assert Backfill.objects.get().state == "counting"
    settings.API_MOST_WAITING_CALLS = 1000
    tasks.continue_backfills()
    plans.start(backfill.pk, by=tess, now=now)
    tasks.continue_backfills()
    assert Backfill.objects.get().state == "done"
