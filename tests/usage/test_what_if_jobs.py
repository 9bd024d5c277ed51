"""What-ifs from asking to forgetting: what is offered, asked once, gone on with after a crash, kept for a while."""

from datetime import UTC, date, datetime, timedelta

import pytest

from billing_portal.ledger import accounts, periods, settlement
from tests.usage.conftest import priced, record  # noqa: F401 - fixtures
from tests.usage.test_changes import some
from usage import prices, rollups, tasks
from usage.models import WhatIf
from usage.what_if import choices, jobs, rerating
from usage.what_if.choices import Choice

pytestmark = pytest.mark.django_db
GPT_5 = Choice(llm="gpt_5")


@pytest.fixture
def used(acme, record, priced):  # noqa: F811
    """Acme with calls in each month from July to October, of which the last is not over."""
    accounts.open(organization=acme, now=datetime(2026, 7, 1, tzinfo=UTC))
    for month in (7, 8, 9, 10):
        at = datetime(2026, month, 10, tzinfo=UTC)
        record(*some(date(2026, month, 5), month), now=at)
        settlement.settle_all(acme.pk, now=at)
        if month < 10:
            periods.close(acme.pk, date(2026, month, 1), now=at + timedelta(days=25))
    return acme


@pytest.fixture
def ask(used, alice, now):
    def ask(choice=GPT_5, most_months=2, at=now):
        return jobs.ask(organization=used, by=alice, choice=choice, most_months=most_months, now=at)

    return ask


def test_months_are_the_last_that_are_over(used, now):
    assert jobs.months(used, 2, now=now) == [date(2026, 8, 1), date(2026, 9, 1)]
    assert len(jobs.months(used, 12, now=now)) == 3


def test_in_the_first_month_that_one_is_taken_as_far_as_it_is(used):
    early = datetime(2026, 7, 20, tzinfo=UTC)
    assert jobs.months(used, 3, now=early)[-1:] == [date(2026, 10, 1)]


def test_asked_and_run_it_holds_every_month_as_charged_and_as_chosen(used, ask, now):
    what_if = jobs.run(ask().pk, clock=lambda: now)
    assert (what_if.state, what_if.finished_at) == ("ready", now)
    results = jobs.results_of(what_if)
    assert [each.month for each in results] == [date(2026, 8, 1), date(2026, 9, 1)]
    for each in results:
        assert each.now == {
            name: micros for name, micros in rollups.component_totals(used.pk, each.month).items() if micros
        }
        assert each == rerating.month(used.pk, each.month, GPT_5)
        assert each.then["llm"] > each.now["llm"]
        assert each.then["voice"] == each.now["voice"]


def test_the_same_choice_is_computed_once_while_it_is_kept(ask, now):
    first = ask()
    assert ask().pk == first.pk
    jobs.run(first.pk, clock=lambda: now)
    assert ask().pk == first.pk
    assert ask(Choice(llm="gpt_4o")).pk != first.pk
    assert ask(at=now + jobs.KEPT).pk != first.pk


def test_a_killed_worker_loses_no_month_that_was_rated(ask, now, monkeypatch):
    asked = ask(most_months=3)
    assert jobs.run(asked.pk, clock=lambda: now, most_months=1).is_under_way
    rated, rate = [], rerating.month

    def dies_at_the_second(organization_id, month, choice):
        rated.append(month)
        if len(rated) == 2:
            raise ConnectionError
        return rate(organization_id, month, choice)

    monkeypatch.setattr(rerating, "month", dies_at_the_second)
    with pytest.raises(ConnectionError):
        jobs.run(asked.pk, clock=lambda: now)
    assert jobs.abandoned(limit=5) == [asked.pk]
    done = jobs.run(asked.pk, clock=lambda: now)
    assert done.state == "ready"
    assert rated == [date(2026, 8, 1), date(2026, 9, 1), date(2026, 9, 1)]


def test_one_worker_at_a_time_and_not_for_ever(ask, now):
    asked = ask()
    held = jobs._claim(asked.pk, lambda: now)
    assert jobs.run(asked.pk, clock=lambda: now) is None
    assert jobs.abandoned(limit=5) == []
    WhatIf.objects.filter(pk=held.pk).update(lease=None, attempts=jobs.MOST_ATTEMPTS)
    assert jobs.run(asked.pk, clock=lambda: now) is None
    asked.refresh_from_db()
    assert asked.state == "failed"


def test_the_task_goes_on_month_by_month(ask, now, django_capture_on_commit_callbacks, monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    asked = ask(most_months=3)
    tasks.continue_what_ifs()
    asked.refresh_from_db()
    assert (asked.state, len(asked.results)) == ("ready", 3)


def test_too_many_at_once_and_no_usage_are_refused(ask, acme, other, charlie, now):
    for model in ("gpt_4o", "gpt_5", "gpt_4_1"):
        ask(Choice(llm=model))
    with pytest.raises(jobs.TooManyUnderWay):
        ask(Choice(llm="gpt_4_1_mini"))
    with pytest.raises(jobs.NoUsage):
        jobs.ask(organization=other, by=charlie, choice=GPT_5, most_months=1, now=now)


def test_only_what_is_public_and_priced_may_be_chosen(used, ask, now):
    own = {
        "reference": "acme-own",
        "name": "Acme's own",
        "currency": "USD",
        "organization": "acme",
        "versions": [
            {
                "number": 1,
                "starts_at": datetime(2026, 1, 1, tzinfo=UTC),
                "rates": [{"product": "secret_llm", "component": "llm", "unit": "minute", "rate": "0.01"}],
            }
        ],
    }
    [version] = prices.load({"books": [own]}, now=now)
    offered = choices.offer(used, now=now)
    assert [plan.book for plan in offered.plans] == ["parley-usd"]
    assert "secret_llm" not in {rate.product for rates in offered.products.values() for rate in rates}
    for choice, field in (
        (Choice(plan=version.pk), "plan"),
        (Choice(llm="secret_llm"), "llm"),
        (Choice(voice="gpt_5"), "voice"),
    ):
        with pytest.raises(choices.NotOffered) as refused:
            ask(choice)
        assert refused.value.field == field
    with pytest.raises(choices.NothingChosen):
        ask(Choice())
    assert not WhatIf.objects.exists()


def test_it_is_forgotten_when_its_time_is_over(ask, now):
    asked = ask()
    assert jobs.forget(now=asked.expires_at - timedelta(seconds=1)) == 0
    assert jobs.forget(now=asked.expires_at) == 1
