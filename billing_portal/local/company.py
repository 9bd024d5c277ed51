"""The demo's world besides its customers: prices, the staff, and the days since the last month end."""

import calendar
import itertools
import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts import clock, mfa, people
from accounts.models import Organization
from billing_portal.billing import bucket_offers
from billing_portal.ledger import checks, settling
from billing_portal.ledger.models import Account
from billing_portal.local import story
from billing_portal.local.demo import SEEDED
from billing_portal.support import actions, kinds
from usage import prices, sample_conversations, samples
from usage.outcomes import rules

PRICES = Path(prices.__file__).parent / "price_books" / "parley.toml"
OUTCOMES = PRICES.with_name("outcomes.toml")
OFFERS = Path(bucket_offers.__file__).parent / "price_lists" / "parley_buckets.toml"
STAFF_EMAIL = "support@parley.example"
_GESTURES = ("Calls dropped for 40 minutes last week", "Moving to us from another platform: the first weeks are on us")
_GESTURE_MICROS = (25_000_000, 150_000_000)
STAFF_TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - printed by the demo for everyone to use


def seed_prices() -> None:
    """Load the sample company's price books, outcome rules and buckets on sale; again changes nothing."""
    prices.load(tomllib.loads(PRICES.read_text()), now=clock.now())
    rules.load(tomllib.loads(OUTCOMES.read_text()), now=clock.now())
    bucket_offers.load(tomllib.loads(OFFERS.read_text()), now=clock.now())


def seed_staff() -> None:
    """Make the support person, with a second factor; again changes nothing."""
    staff = people.admit(email=STAFF_EMAIL, password=story.PASSWORD, name="Robin Support", is_staff=True)
    if not staff.is_superuser:
        staff.is_superuser = True
        staff.save(update_fields=["is_superuser"])
        mfa.enroll_totp(staff, STAFF_TOTP_SECRET)


def is_seeded() -> bool:
    """Say whether a story was told to its end here; one cut short is taken up where it stopped."""
    return _marker().exists()


def mark_seeded() -> None:
    """Remember that the story was told to its end."""
    _marker().touch()


def live_until_today(plan: story.Plan) -> None:
    """Bring the clock to the present, with the running month's calls and conversations so far, settled."""
    today = datetime.now(UTC)
    story.advance_to(today)
    calls = itertools.takewhile(
        lambda call: call["start_timestamp"] < today.timestamp() * 1000 - 3_600_000, _running(plan)
    )
    story.post_calls(calls, advance=lambda _: None)
    until = (today - timedelta(hours=1)).isoformat()
    story.post_conversations(event for event in _running_conversations(plan) if event["occurred_at"] < until)
    for organization_id in Account.objects.values_list("organization_id", flat=True):
        settling.settle_all(organization_id, now=clock.now())


def make_gestures(plan: story.Plan) -> None:
    """Let staff do what staff do: a gift to the largest customer, and a larger one that waits for somebody else."""
    colleague = people.admit(email="kim@parley.example", password=story.PASSWORD, name="Kim Support", is_staff=True)
    for sample, reason, micros in zip(plan.customers, _GESTURES, _GESTURE_MICROS, strict=False):
        organization = Organization.objects.get(reference=sample.reference)
        actions.ask(
            kind=kinds.named("goodwill"),
            organization=organization,
            params={"micros": micros, "last_day": str(clock.now().date() + timedelta(days=12))},
            reason=reason,
            public_id=uuid.uuid5(organization.public_id, reason),
            by=colleague,
            now=clock.now(),
        )
    for organization_id in checks.due(now=clock.now(), limit=1_000):
        checks.check(organization_id, now=clock.now())


def _running(plan: story.Plan) -> Any:
    """Return the running month's calls, as many a day as in the months before."""
    month = date.today().replace(day=1)  # noqa: DTZ011 - which of two months at midnight does not matter here
    days = sum(calendar.monthrange(each.year, each.month)[1] for each in plan.months)
    count = plan.calls * calendar.monthrange(month.year, month.month)[1] // days
    return samples.calls(months=[month], count=count, seed=plan.seed + 1, customers=plan.customers)


def _running_conversations(plan: story.Plan) -> Iterator[dict[str, Any]]:
    """Return the events since the story's last month: what its conversations still brought, and new ones."""
    writing = sample_conversations.customers(plan.customers)
    running = date.today().replace(day=1)  # noqa: DTZ011
    months = [*plan.months, running]
    every = sample_conversations.events(months=plan.months, count=plan.conversations, seed=plan.seed, customers=writing)
    told = {f"{month:%Y-%m}" for month in plan.months}
    yield from (event for event in every if event["occurred_at"][:7] not in told)
    yield from sample_conversations.events(
        months=[running], count=plan.conversations // len(months), seed=plan.seed + 1, customers=writing
    )


def _marker() -> Path:
    return Path(settings.LOCAL_DIR) / SEEDED
