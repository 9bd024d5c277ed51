from collections.abc import Callable

import pytest

from accounts.models import Organization
from billing_portal.ledger import accounts
from tests.billing import world


@pytest.fixture
def priced(db: None) -> None:
    world.load_prices()


@pytest.fixture
def with_calls(priced, now, make_organization) -> Callable[..., Organization]:
    """Return a maker of organizations with books and a number of recorded calls that wait for settlement."""

    def make(reference: str, count: int = 20, *, starts_at=now, **fields) -> Organization:
        organization = make_organization(reference, **fields)
        accounts.open(organization=organization, now=now.replace(day=1))
        world.record_calls(organization, count, starts_at=starts_at, now=now.replace(year=now.year + 1))
        return organization

    return make
