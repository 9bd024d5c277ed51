"""The story that the demo tells: sign-up, cards, months of calls through the API, month ends, paid invoices.

Everything goes the way a customer's would: calls over HTTP, cards through Stripe's own endpoint, month ends by the
sandbox's clock, its webhooks, the worker. The story only waits and looks.
"""

import http.client
import itertools
import json
import os
import signal
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import F, Q, Sum

from accounts import api_keys, clock, people
from accounts.models import ApiKey, Organization, User
from billing_portal.billing import cards, customers, interims
from billing_portal.billing.models import Invoice, PaymentMethod
from billing_portal.billing.tax import addresses, automatic, details
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Account
from billing_portal.local import sandbox_client
from billing_portal.portal import onboarding
from usage import periods, sample_conversations, samples
from usage.models import CallRange, OutcomeCharge

BATCH = 1000
PASSWORD = "parley-demo-2026"  # noqa: S105 - printed by the demo for everyone to use
VENDOR_SECRET = "bp_vendor_demo_key_for_the_sandbox_only"  # noqa: S105
# What larger customers may owe, as staff set it for those they know; the smallest keep the limit of new ones.
_KNOWN_LIMIT_MICROS = 2_000_000_000
_NEW_CUSTOMERS = 3
_CALLS_A_CONVERSATION = 40
_ADDRESS = {"line1": "548 Market St", "city": "San Francisco", "region": "CA", "postal_code": "94104"}
_AFTER_ANCHOR = timedelta(hours=12, minutes=5)
_PATIENCE = timedelta(minutes=20)


class Stalled(Exception):
    """The month end did not finish in time; carries what each organization still waits for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen: which months, and where their calls come from."""

    months: Sequence[date]
    calls: int
    organizations: int
    seed: int
    arrivals: Path | None = None
    arrivals_month: date | None = None

    @property
    def customers(self) -> list[samples.SampleOrganization]:
        return samples.organizations(seed=self.seed, count=self.organizations)

    def is_known(self, sample: samples.SampleOrganization) -> bool:
        """Say whether staff know the customer well enough to let it owe more: all but the smallest few."""
        return sample not in self.customers[-_NEW_CUSTOMERS:]

    def month_of_calls(self, month: date) -> Iterator[dict[str, Any]]:
        """Yield the calls of one month, in the order of their start."""
        if self.arrivals and self.arrivals_month:
            counts = samples.read_arrivals(self.arrivals, source=self.arrivals_month, target=month)
            return samples.calls_of_arrivals(counts, seed=self.seed, customers=self.customers)
        every = samples.calls(months=self.months, count=self.calls, seed=self.seed, customers=self.customers)
        return (call for call in every if _month_of_call(call) == month)

    @property
    def conversations(self) -> int:
        """How many conversations there are, beside the calls."""
        return self.calls // _CALLS_A_CONVERSATION

    def month_of_conversations(self, month: date) -> Iterator[dict[str, Any]]:
        """Yield the events of conversations in one month, in their order."""
        writing = sample_conversations.customers(self.customers)
        every = sample_conversations.events(
            months=self.months, count=self.conversations, seed=self.seed, customers=writing
        )
        return (event for event in every if event["occurred_at"].startswith(f"{month:%Y-%m}"))


def follow_sandbox() -> datetime:
    """Set the domain's clock to the sandbox's, and return it."""
    instant = sandbox_client.now()
    clock.follow(instant - datetime.now(UTC))
    return instant


def advance_to(instant: datetime) -> None:
    """Move both clocks forward to `instant`; an instant already past changes nothing."""
    if sandbox_client.now() < instant:
        # The portal first: nothing the sandbox sends may come from the portal's future.
        clock.follow(instant - datetime.now(UTC))
        sandbox_client.advance_to(instant)
    follow_sandbox()


def sign_up(sample: samples.SampleOrganization, *, is_known: bool, currency: str = "USD") -> Organization:
    """Let a customer sign up and save a card; doing it again changes nothing.

    One that staff know may owe more before an interim invoice is charged.
    """
    now = clock.now()
    owner = people.admit(email=f"owner@{sample.reference}.example", password=PASSWORD, name="Sam Owner")
    organization = onboarding.open_organization(
        user=owner,
        name=sample.name,
        currency=currency,
        time_zone=sample.time_zone,
        now=now,
        reference=sample.reference,
    )
    if is_known:
        accounts.limit_arrears(organization.pk, micros=_KNOWN_LIMIT_MICROS)
    customers.subscribe(organization, now=now)
    give_address(organization, owner, now=now)
    if not cards.has_usable_card(organization):
        save_card(organization, owner, now=now)
    return organization


def give_address(organization: Organization, user: User, *, now: datetime) -> None:
    """Enter a billing address, where what is sold is exempt from tax: the story's figures are before tax."""
    address = addresses.check("US", _ADDRESS)
    details.change(organization, user=user, legal_name=f"{organization.name}, Inc.", address=address, now=now)
    automatic.apply(organization, now=now)


def save_card(organization: Organization, user: User, *, now: datetime) -> None:
    """Go through the card form as the browser does."""
    started = cards.start(organization, user, now=now)
    cards.accept_mandate(started.setup, user, now=now)
    # Each customer has a card of its own: a card earns one welcome credit.
    number = sandbox_client.CARD_NUMBERS[PaymentMethod.objects.count() % len(sandbox_client.CARD_NUMBERS)]
    sandbox_client.confirm_card(started.setup.stripe_setup_intent_id, started.client_secret, number=number)
    cards.finish(started.setup.stripe_setup_intent_id, now=now)


def vendor_key() -> str:
    """Return the secret of the vendor's key, making the key if it is not there yet."""
    if api_keys.recognize(VENDOR_SECRET, now=clock.now()) is None:
        scopes = [*map(str, ApiKey.VENDOR_SCOPES), str(ApiKey.Scope.USAGE_READ)]
        api_keys.issue(organization=None, name="Voice platform", scopes=scopes, now=clock.now(), secret=VENDOR_SECRET)
    return VENDOR_SECRET


def post_calls(calls: Iterable[dict[str, Any]], *, advance: Callable[[int], None]) -> int:
    """Post calls to the portal's API in batches, two at a time; return how many it recorded.

    Raises RuntimeError if any is refused. `advance` is told how many were answered.
    """
    recorded = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        # No more than a handful of batches wait in memory, however long the log.
        for group in _batched(_batched(samples.numbered(calls), BATCH), 8):
            for answer in pool.map(_post, group):
                recorded += answer["recorded"]
                advance(answer["recorded"] + answer["duplicates"])
    return recorded


def post_conversations(events: Iterable[dict[str, Any]]) -> int:
    """Post events of conversations to the portal's API; return how many it recorded. Raises RuntimeError if not all."""
    recorded = 0
    for batch in _batched(events, BATCH):
        answer = _post(batch, "/api/v1/conversations/events")
        recorded += answer["recorded"] + answer["held"]
    return recorded


def close_month(month: date, *, advance: Callable[[int, int], None]) -> None:
    """Let the month end, and wait until every organization that used anything has its invoice paid.

    `advance` is told how many of how many are paid. Raises Stalled.
    """
    following = periods.next_month(month)
    advance_to(datetime(following.year, following.month, 1, tzinfo=UTC) + _AFTER_ANCHOR)
    give_up_at = time.monotonic() + _PATIENCE.total_seconds()
    while time.monotonic() < give_up_at:
        expected = Account.objects.count()
        done = Invoice.objects.filter(month=month, state=Invoice.State.PAID).count()
        advance(done, expected)
        if done >= expected:
            return
        time.sleep(0.5)
    waiting = Invoice.objects.filter(~Q(state=Invoice.State.PAID), month=month)
    raise Stalled(
        "; ".join(f"{invoice}: {invoice.state} {invoice.waiting_for}" for invoice in waiting) or "no invoices"
    )


def kill_worker_if_asked() -> None:
    """Tell the launcher, if it wants to, to kill the worker now."""
    if pid := os.environ.get("STORY_KILLS_WORKER"):
        os.kill(int(pid), signal.SIGUSR1)


def settle_month() -> None:
    """Wait until all usage is settled, and whoever came near what it may owe has its interim invoice charged.

    A month of real life leaves the time for it; a story's would be over before. Raises Stalled.
    """
    give_up_at = time.monotonic() + _PATIENCE.total_seconds()
    while unsettled() or interims.near_the_limit(1):
        if time.monotonic() > give_up_at:
            raise Stalled(f"{unsettled()} charges are not settled; near their limit: {interims.near_the_limit(10)}")
        time.sleep(0.2)


def unsettled() -> int:
    """Return how many charges wait for settlement."""
    waiting = CallRange.objects.filter(first_sequence=None).aggregate(calls=Sum(F("last_id") - F("first_id") + 1))
    return int(waiting["calls"] or 0) + OutcomeCharge.objects.filter(sequence=None, withdrawn_at=None).count()


def _post(batch: list[dict[str, Any]], path: str = "/api/v1/calls") -> dict[str, Any]:
    """Post one batch, patiently while the portal is busy, and insist that nothing was refused."""
    address = urllib.parse.urlsplit(settings.BASE_URL)
    body = json.dumps(batch).encode()
    headers = {"Authorization": f"Bearer {VENDOR_SECRET}", "Content-Type": "application/json"}
    for pause in (0.5, 2, 8, 0):
        connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=120)
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        connection.close()
        if response.status < 429:
            break
        time.sleep(pause)
    if response.status != 200 or answer["rejected"] or answer["conflicts"]:
        refused = [item for item in answer.get("items", []) if item["status"] in {"rejected", "conflict"}]
        raise RuntimeError(f"The portal refused what was posted to {path} ({response.status}): {refused[:3] or answer}")
    return answer


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _month_of_call(call: dict[str, Any]) -> date:
    return datetime.fromtimestamp(call["start_timestamp"] / 1000, UTC).date().replace(day=1)
