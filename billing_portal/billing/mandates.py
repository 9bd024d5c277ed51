"""What a person agrees to when saving a card for charges to come."""

from django.conf import settings

# A changed text is a new version: what was accepted is kept word for word beside the card.
VERSION = "2026-10"
_TEXT = (
    "I authorize {vendor} to charge this payment method for the usage of {organization}: what credit does not cover is "
    "charged when a month's invoice is finalized, without asking me again. I can remove or replace the payment method "
    "at any time; usage up to then stays due."
)


def text_for(organization_name: str) -> str:
    """Return the mandate as it is shown for an organization."""
    return _TEXT.format(vendor=settings.VENDOR_NAME, organization=organization_name)
