"""The sandbox in its worst mood: months of declines, lost answers and late webhooks end as the calm ones do.

Of all charges 10 % are declined, 1 % of writes time out after their effect, a fifth of webhooks come twice, and half of
them up to three days late, by the sandbox's clock, and so in any order. What is declined is retried: an invoice by
Stripe's own schedule, a top-up by ours; a person who buys credit tries again on the next day. Where a card is refused
for good, its owner enters another one.
"""

import sys
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from accounts import clock
from billing_portal.billing import bucket_offers
from billing_portal.local import company
from tests.mood import ending
from tests.mood.customers import Customer, use
from tests.mood.plan import Plan, months
from tests.mood.world import World
from tests.stripe.conftest import RunningSandbox, start, stop
from usage import dimensions, partitions, prices
from usage.outcomes import rules

MOOD = {"seed": 7, "declined": 0.1, "timed_out": 0.01, "timeout_seconds": 1.2, "duplicated": 0.2, "delayed": 0.5}
# Two months are short, so more has to go wrong in them.
WORSE = MOOD | {"declined": 0.3, "timed_out": 0.05}
BEGINNING = datetime(2027, 1, 2, 9, tzinfo=UTC)
BEFORE = datetime(2024, 1, 1, tzinfo=UTC)
# On the others nothing is planned, and no retry falls due.
DAYS = (*range(1, 17), 18, 20, 22, 25, 28)
FAULTS = ("declined", "timed_out", "duplicated", "delayed", "reordered")


def live(world: World, customers: list[Customer], count: int) -> None:
    """Live through so many months, day by day, and a quiet one more."""
    for number, month in enumerate(months(count + 1)):
        for day in DAYS[2:] if number == 0 else DAYS:
            noon = datetime(month.year, month.month, day, 12, 5, tzinfo=UTC)
            world.pass_time(noon)
            if number < count:
                for each in customers:
                    each.live(month, day, number, world)
                use(customers, month, day, world.now)
            for each in customers:
                each.see_to_it(day, number, world)
            world.work(is_patient=day % 3 != 0)
            if day == 1:
                world.pass_time(noon + timedelta(minutes=15))
                world.work()
            if day == 28:
                world.catch_up()


def world_of(sandbox: RunningSandbox, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[World, str]:
    world = World(sandbox, monkeypatch)
    world.pass_time(BEGINNING)
    for load, path in (
        (prices.load, company.PRICES), (rules.load, company.OUTCOMES), (bucket_offers.load, company.OFFERS),
    ):  # fmt: skip
        load(tomllib.loads(path.read_text()), now=BEFORE)
    return world, world.listen(live_server.url)


def lived(
    mood: dict[str, Any], *, organizations: int, count: int, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Live a world from its beginning to its end; return its final state, its payments and what went wrong in it."""
    process, sandbox = start("--aggregation-seconds", "0", "--clock", BEGINNING.isoformat())
    try:
        world, secret = world_of(sandbox, live_server, monkeypatch)
        reach = {"STRIPE_API_BASE": sandbox.url, "STRIPE_TIMEOUT_SECONDS": 1.0 if mood else 10}
        with override_settings(STRIPE_WEBHOOK_SECRETS=[secret], **reach):
            sandbox.faults(mood=mood)
            customers = [Customer.sign_up(Plan(number), world) for number in range(organizations)]
            live(world, customers, count)
            counted = sandbox.faults().get("mood", {}).get("counted", {})
            sandbox.faults(mood={})
            world.pass_time(world.now + timedelta(days=4))
            world.catch_up()
            ending.assert_nothing_is_left(world)
            ending.assert_every_cent_is_explained(world)
            paid = ending.assert_every_payment_is_credited_once(world)
            final = {each.plan.reference: ending.state(each.organization, world) for each in customers}
    finally:
        stop(process, sandbox)
        clock.follow(timedelta(0))
    return {"final": final, "paid": paid, "counted": counted}


def forget_everything() -> None:
    call_command("flush", verbosity=0, interactive=False)
    cache.clear()
    dimensions.forget()
    partitions.forget()


def compare(
    mood: dict[str, Any], organizations: int, count: int, live_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    life = {"organizations": organizations, "count": count, "live_server": live_server, "monkeypatch": monkeypatch}
    forget_everything()
    began = timezone.now()
    calm = lived({}, **life)
    forget_everything()
    halfway = timezone.now()
    bad = lived(mood, **life)
    with capsys.disabled():
        told = ", ".join(f"{bad['counted'].get(fault, 0):,} {fault.replace('_', ' ')}" for fault in FAULTS)
        took = f"the calm world took {halfway - began}, the bad one {timezone.now() - halfway}"
        sys.stdout.write(
            f"\n{organizations} customers, {count} months, {calm['paid']:,} payments; went wrong: {told}"
            f"\n{took}; of {bad['counted']}\n"
        )
    for reference, expected in calm["final"].items():
        for name, value in expected.items():
            assert bad["final"][reference][name] == value, (reference, name)
    assert bad["paid"] == calm["paid"]
    assert min(bad["counted"].get(fault, 0) for fault in FAULTS) > 0


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.django_db(transaction=True)
def test_two_bad_months_end_as_calm_ones(
    live_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(WORSE, 5, 2, live_server, monkeypatch, capsys)


@pytest.mark.long
@pytest.mark.timeout(14_400)
@pytest.mark.django_db(transaction=True)
def test_a_year_in_the_worst_mood_ends_as_a_calm_one(
    live_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(MOOD, 50, 12, live_server, monkeypatch, capsys)
