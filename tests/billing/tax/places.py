"""Where the customers of these tests are."""

from datetime import datetime

from accounts.models import Organization
from billing_portal.billing.models import BillingDetails
from billing_portal.billing.tax import addresses, automatic, details

BERLIN = {"country": "DE", "line1": "Invalidenstraße 1", "city": "Berlin", "postal_code": "10115"}
PARIS = {"country": "FR", "line1": "1 rue de Rivoli", "city": "Paris", "postal_code": "75001"}
NEW_YORK = {"country": "US", "line1": "1 Main St", "city": "New York", "region": "NY", "postal_code": "10001"}
NOWHERE = {"country": "DE", "line1": "Nirgendwo 0", "city": "Nirgendheim", "postal_code": "00000"}


def live(organization: Organization, place: dict[str, str], *, now: datetime, **said: str) -> BillingDetails:
    """Give an organization an address, and Stripe too."""
    address = addresses.check(place["country"], place)
    made = details.change(
        organization, user=None, address=address, now=now, **({"legal_name": "Acme Robotics Ltd"} | said)
    )
    automatic.apply(organization, now=now)
    return made
