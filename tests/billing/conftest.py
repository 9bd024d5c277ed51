"""The sandbox over HTTP, and organizations that are customers there."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from accounts.models import Organization
from billing_portal.ledger import accounts
from tests.billing.world import MIDMONTH, subscribe
from tests.stripe.conftest import RunningSandbox, start, stop


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
    with override_settings(STRIPE_API_BASE=sandbox_process.url, STRIPE_TIMEOUT_SECONDS=3):
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
