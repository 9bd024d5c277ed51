"""What customers fill in."""

import re
import uuid
import zoneinfo
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts.models import Organization
from usage import prices


class EmailsField(forms.CharField):
    """Several e-mail addresses, one a line; its value is a tuple of them, in lower case, each once."""

    def __init__(self, *, most: int, **options: Any) -> None:
        super().__init__(max_length=3_000, widget=forms.Textarea(attrs={"rows": 3}), **options)
        self.most = most

    def clean(self, value: Any) -> Any:
        addresses = [each.lower() for each in re.split(r"[\s,;]+", super().clean(value)) if each]
        if len(addresses) > self.most:
            raise ValidationError(f"At most {self.most} addresses.")
        for address in addresses:
            try:
                validate_email(address)
            except ValidationError:
                raise ValidationError(f"{address} is not an e-mail address.") from None
        return tuple(dict.fromkeys(addresses))


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

    name = forms.CharField(label="Organization", max_length=120, help_text="As it stands on these pages.")
    time_zone = forms.ChoiceField(help_text="A change takes effect with your next billing month.")

    def __init__(self, data: Any = None, *, organization: Organization) -> None:
        initial = {
            "name": organization.name,
            "time_zone": organization.next_time_zone or organization.time_zone,
        }
        super().__init__(data, initial=initial)
        zone = self.fields["time_zone"]
        assert isinstance(zone, forms.ChoiceField)
        zone.choices = time_zone_choices()
