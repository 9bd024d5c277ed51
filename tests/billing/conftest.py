"""The sandbox over HTTP, and organizations that are customers there."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings

from accounts.models import Organization, User
from billing_portal.billing import customers as stripe_customers
from billing_portal.billing.models import Customer, PaymentMethod
from billing_portal.ledger import accounts, credits, settlement
from billing_portal.ledger.models import Grant
from tests.billing.world import CLOSING, MIDMONTH, Buyer, load_prices, record_calls, save_card, subscribe
from tests.ledger import racing
from tests.stripe.conftest import RunningSandbox, start, stop

MakeBuyer = Callable[..., Buyer]


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[RunningSandbox]:
    process, running = start("--aggregation-seconds", "0")
    yield running
    stop(process, running)


@pytest.fixture
def stripe(sandbox_process: RunningSandbox, transactional_db: None) -> Iterator[RunningSandbox]:
    """The sandbox, empty, on 10 February 2027, 09:30 UTC, with the portal speaking to it."""
    sandbox_process.reset()
    sandbox_process.faults(fail_next={}, timeout_next={}, decline_next={}, webhooks={})
    sandbox_process.advance_to(MIDMONTH.timestamp())
    with override_settings(STRIPE_API_BASE=sandbox_process.url, STRIPE_TIMEOUT_SECONDS=2):
        yield sandbox_process


@pytest.fixture
def subscribed(stripe: RunningSandbox, make_organization: Callable[..., Organization]) -> Callable[..., Organization]:
    """Return a maker of organizations with books, a Stripe customer and a subscription to every meter."""

    def make(reference: str, *, card: str | None = "pm_card_visa", **fields: Any) -> Organization:
        now = stripe.now()
        organization = make_organization(reference, **fields)
        accounts.open(organization=organization, now=now)
        subscribe(organization, card=card, now=now)
        return organization

    return make


@pytest.fixture
def buyer(
    stripe: RunningSandbox, make_user: Callable[..., User], make_organization: Callable[..., Organization]
) -> MakeBuyer:
    """Return a maker of organizations with an owner, and a saved card that is the default here and at Stripe."""

    def make(reference: str, *, card: str | None = "pm_card_visa", **fields: Any) -> Buyer:
        owner = make_user(f"owner@{reference}.example", name="Olivia Owner")
        organization = make_organization(reference, owner=owner, **fields)
        accounts.open(organization=organization, now=stripe.now())
        stripe_customers.ensure(organization, now=stripe.now())
        method = save_card(organization, card, now=stripe.now()) if card else None
        return Buyer(organization, owner, method)

    return make


@pytest.fixture
def limited(stripe: RunningSandbox, subscribed: Callable[..., Organization]) -> Callable[..., Organization]:
    """Return a maker of customers with list prices, a saved card and a limit of five dollars; it is 10 February."""

    def make(reference: str, *, limit_micros: int = 5_000_000, **fields: Any) -> Organization:
        load_prices()
        organization = subscribed(reference, card=None, **fields)
        accounts.limit_arrears(organization.pk, micros=limit_micros)
        save_card(organization, "pm_card_visa", now=stripe.now())
        return organization

    return make


@pytest.fixture
def used(stripe: RunningSandbox, subscribed: Callable[..., Organization]) -> Callable[..., Organization]:
    """Return a maker of customers with welcome credit and 60 calls in February; the time is 1 March, 12:10 UTC."""

    def make(reference: str, *, calls: int = 60, credit_micros: int = 10_000_000, **fields: object) -> Organization:
        load_prices()
        organization = subscribed(reference, **fields)
        if credit_micros:
            credits.grant(
                organization=organization,
                kind=Grant.Kind.WELCOME,
                micros=credit_micros,
                reference="welcome",
                now=MIDMONTH,
            )
        later = MIDMONTH + timedelta(hours=12)
        record_calls(organization, calls, starts_at=MIDMONTH, now=later)
        settlement.settle_all(organization.pk, now=later)
        if stripe.now() < CLOSING:
            stripe.advance_to(CLOSING.timestamp())
        return organization

    return make


# Races, in which Stripe is not asked: see `tests.ledger.racing`.


@pytest.fixture
def nothing_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


@pytest.fixture
def trials() -> int:
    return racing.TRIALS


@pytest.fixture
def customers(now: datetime, trials: int) -> list[Organization]:
    """Two organizations for each trial, with books, a customer and a card, of which Stripe knows nothing."""
    made = racing.organizations(now, 2 * trials)
    subscribed_at = now - timedelta(days=12)
    Customer.objects.bulk_create(
        Customer(
            organization=each,
            stripe_customer_id=f"cus_{each.pk}",
            stripe_subscription_id=f"sub_{each.pk}",
            subscribed_at=subscribed_at,
            created_at=subscribed_at,
        )
        for each in made
    )
    PaymentMethod.objects.bulk_create(
        PaymentMethod(
            organization=each,
            stripe_payment_method_id=f"pm_{each.pk}",
            kind="card",
            is_default=True,
            created_at=now,
        )
        for each in made
    )
    return made
