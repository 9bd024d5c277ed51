"""What customers fill in."""

import uuid
import zoneinfo
from typing import Any

from django import forms

from accounts.models import Organization
from usage import prices

_COMMON_ZONES = ("UTC", "America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/London", "Europe/Berlin")


def time_zone_choices() -> list[Any]:
    """Return all time zones, the most common first."""
    rest = sorted(name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc/"))
    return [("Common", [(name, name) for name in _COMMON_ZONES]), ("All", [(name, name) for name in rest])]


class OrganizationForm(forms.Form):
    """A new organization. `token` is minted with the form, so that a double submit makes one."""

    name = forms.CharField(label="Organization", max_length=120, help_text="As it should stand on invoices.")
    currency = forms.ChoiceField(help_text="Fixed from the first charge on.")
    time_zone = forms.ChoiceField(help_text="Your days and billing months begin at midnight there.")
    token = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, initial={"token": uuid.uuid4(), "time_zone": "UTC", "currency": "USD"})
        currency, zone = self.fields["currency"], self.fields["time_zone"]
        assert isinstance(currency, forms.ChoiceField)
        assert isinstance(zone, forms.ChoiceField)
        currency.choices = [(code, code) for code in sorted(prices.currencies())]
        zone.choices = time_zone_choices()


class SettingsForm(forms.Form):
    """What an organization may change about itself."""

    name = forms.CharField(label="Organization", max_length=120, help_text="As it should stand on invoices.")
    billing_email = forms.EmailField(help_text="Invoices and receipts go here.")
    time_zone = forms.ChoiceField(help_text="A change takes effect with your next billing month.")

    def __init__(self, data: Any = None, *, organization: Organization) -> None:
        initial = {
            "name": organization.name,
            "billing_email": organization.billing_email,
            "time_zone": organization.next_time_zone or organization.time_zone,
        }
        super().__init__(data, initial=initial)
        zone = self.fields["time_zone"]
        assert isinstance(zone, forms.ChoiceField)
        zone.choices = time_zone_choices()
