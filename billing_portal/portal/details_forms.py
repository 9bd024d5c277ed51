"""What customers fill in about whom their invoices are made out to; each country asks for the parts it writes."""

from typing import Any

from django import forms

from accounts.models import Organization
from billing_portal.billing.models import BillingDetails
from billing_portal.billing.tax import addresses, id_formats
from billing_portal.portal.forms import EmailsField

MOST_RECIPIENTS = 10
_AUTOCOMPLETE = {
    "line1": "address-line1",
    "line2": "address-line2",
    "city": "address-level2",
    "region": "address-level1",
    "postal_code": "postal-code",
}


class DetailsForm(forms.Form):
    """The name and the address on invoices. Choosing another country asks for other parts."""

    country = forms.ChoiceField(widget=forms.Select(attrs={"autocomplete": "country"}))
    legal_name = forms.CharField(
        label="Legal name",
        max_length=150,
        help_text="Of the company or the person that is invoiced.",
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )

    def __init__(
        self, data: Any = None, *, organization: Organization, newest: BillingDetails | None, typed: Any = None
    ) -> None:
        initial = _first(organization, newest) | {name: (typed or {})[name] for name in typed or {}}
        chosen = str((data or initial).get("country") or "")
        super().__init__(data, initial=initial)
        choices = self.fields["country"]
        assert isinstance(choices, forms.ChoiceField)
        choices.choices = [("", "Choose…"), *addresses.countries().items()]
        self.parts = addresses.parts(chosen) if chosen in addresses.countries() else ()
        for part in self.parts:
            self.fields[part.name] = _field(part)
        self.fields["purchase_order"] = forms.CharField(
            label="Purchase order",
            max_length=60,
            required=False,
            help_text="Stands on each invoice until you change it.",
        )

    def address_fields(self) -> list[forms.BoundField]:
        """Return the fields that depend on the country."""
        return [self[part.name] for part in self.parts]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if country := cleaned.get("country"):
            try:
                cleaned["address"] = addresses.check(country, {name: cleaned.get(name, "") for name in _AUTOCOMPLETE})
            except addresses.AddressRefused as error:
                for name in error.errors.keys() - self.errors.keys():
                    self.add_error(name, error.errors[name])
        return cleaned

    def said(self) -> dict[str, Any]:
        """Return what was entered as the domain names it."""
        return {name: self.cleaned_data[name] for name in ("legal_name", "address", "purchase_order")}


class RecipientsForm(forms.Form):
    """Who reads about money; the first is the address that Stripe writes to."""

    recipients = EmailsField(
        most=MOST_RECIPIENTS,
        label="Send invoices to",
        help_text="One address a line. Stripe sends receipts to the first; the others get a letter from us.",
    )

    def __init__(self, data: Any = None, *, organization: Organization) -> None:
        known = [organization.billing_email, *organization.invoice_recipients]
        super().__init__(data, initial={"recipients": "\n".join(filter(None, known))})


class TaxIdForm(forms.Form):
    """A tax id of one country; which kinds there are follows from that."""

    tax_country = forms.ChoiceField(label="Country")
    type = forms.ChoiceField(label="Kind")
    value = forms.CharField(label="Number", max_length=60, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, data: Any = None, *, country: str) -> None:
        chosen = str((data or {}).get("tax_country") or country)
        kinds = id_formats.kinds_of(chosen)
        super().__init__(data, initial={"tax_country": chosen, "type": kinds[0].type if kinds else ""})
        countries, types = self.fields["tax_country"], self.fields["type"]
        assert isinstance(countries, forms.ChoiceField)
        assert isinstance(types, forms.ChoiceField)
        names = addresses.countries()
        countries.choices = [("", "Choose…"), *((code, names[code]) for code in id_formats.countries())]
        types.choices = [(kind.type, kind.label) for kind in kinds]
        types.error_messages["invalid_choice"] = "Choose a kind that there is in this country."
        if len(kinds) <= 1:
            types.widget = forms.HiddenInput()
        if kinds and "…" not in kinds[0].example:
            self.fields["value"].help_text = f"Like {kinds[0].example}"


def _first(organization: Organization, newest: BillingDetails | None) -> dict[str, Any]:
    """Return what the form begins with: the newest version, or the organization's name and nothing."""
    if newest is None:
        return {"legal_name": organization.name, "country": ""}
    names = ("legal_name", "country", "purchase_order", *_AUTOCOMPLETE)
    return {name: getattr(newest, name) for name in names}


def _field(part: addresses.Part) -> forms.Field:
    """Return one part's field; what must stand there beyond a choice is for `addresses.check` to say, in one place."""
    attrs = {"autocomplete": _AUTOCOMPLETE[part.name]}
    common: dict[str, Any] = {
        "label": part.label,
        "required": part.is_required,
        "error_messages": {"required": part.missing},
    }
    if part.choices:
        field = forms.ChoiceField(choices=[("", "Choose…"), *part.choices], widget=forms.Select(attrs=attrs), **common)
        field.error_messages["invalid_choice"] = part.missing
        return field
    return forms.CharField(max_length=200, widget=forms.TextInput(attrs=attrs), **common)
