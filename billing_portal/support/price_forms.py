"""The form in which staff propose prices of calls; it begins with the prices that are in the book."""

import uuid
from datetime import UTC
from typing import Any

from django import forms

from billing_portal.support import amounts
from usage.models import Component, PriceBook, PriceRate, PriceVersion
from usage.money import MICROS_PER_UNIT
from usage.price_documents import MAX_RATE_MICROS

Unit = PriceRate.Unit
_NEW_ROWS = 3
_MOST_MS = 2**31 - 1


class PricesForm(forms.Form):
    """What holds for a whole version, why, and the key that makes a double submit one proposal."""

    starts_at = forms.DateTimeField(
        label="In force from (UTC)",
        help_text="For calls that start from then on. It must be in the future: customers are told before.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    grace_ms = forms.IntegerField(
        label="A call shorter than so many milliseconds costs nothing", min_value=0, max_value=_MOST_MS
    )
    free_ms = forms.IntegerField(label="So many milliseconds of every call are free", min_value=0, max_value=_MOST_MS)
    token_threshold = forms.IntegerField(
        label="Tokens a request above which language model time is scaled up",
        min_value=0,
        max_value=_MOST_MS,
        help_text="0 is never.",
    )
    note = forms.CharField(max_length=200, required=False, help_text="Customers read it. What this version is about.")
    reason = forms.CharField(
        label="Why",
        max_length=200,
        help_text="For whoever has to decide. Customers do not read it.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, newest: PriceVersion | None) -> None:
        names = ("grace_ms", "free_ms", "token_threshold")
        known = {name: getattr(newest, name) for name in names} if newest else {"grace_ms": 0, "free_ms": 0}
        super().__init__(data, initial={"key": uuid.uuid4(), "token_threshold": 3500, **known})


class RateForm(forms.Form):
    """One product. Without a rate it is not priced any more."""

    product = forms.SlugField(max_length=64, required=False, label="Product")
    rate = forms.DecimalField(
        min_value=0,
        max_value=MAX_RATE_MICROS // MICROS_PER_UNIT,
        decimal_places=6,
        required=False,
        label="Rate",
    )
    unit = forms.ChoiceField(choices=Unit.choices, label="Unit")
    label = forms.CharField(max_length=80, required=False, label="Customers read")
    component = forms.ChoiceField(choices=Component.choices, label="Component")
    minimum_ms = forms.IntegerField(min_value=0, max_value=_MOST_MS, label="At least, ms")
    increment_ms = forms.IntegerField(min_value=1, max_value=_MOST_MS, label="In steps of, ms")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        named = self.initial.get("product") or "a new product"
        for field in self.fields.values():
            field.widget.attrs["aria-label"] = f"{field.label} of {named}"

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if self.cleaned_data.get("rate") is not None and not self.cleaned_data.get("product"):
            self.add_error("product", "Name the product that this rate is for.")
        return cleaned

    @property
    def is_priced(self) -> bool:
        return bool(self.cleaned_data.get("product")) and self.cleaned_data.get("rate") is not None

    @property
    def entry(self) -> dict[str, Any]:
        """The rate as `price_documents` reads it."""
        names = ("product", "label", "component", "unit", "minimum_ms", "increment_ms")
        return {**{name: self.cleaned_data[name] for name in names}, "rate": f"{self.cleaned_data['rate']:f}"}


class RateForms(forms.BaseFormSet):  # type: ignore[type-arg]
    """The rates of a version, with room for products that are new."""

    def refuse(self, path: str, reason: str) -> bool:
        """Show what is wrong with a document beside the rate that it stands in; False where it is about no rate."""
        place, _, field = path.removeprefix("rates[").partition("].")
        priced = [form for form in self.forms if form.is_priced]
        if not path.startswith("rates[") or not place.isdecimal() or int(place) >= len(priced):
            return False
        priced[int(place)].add_error(field if field in priced[int(place)].fields else None, reason)
        return True


_formset = forms.formset_factory(RateForm, formset=RateForms, extra=_NEW_ROWS)


def rates_of(newest: PriceVersion | None, data: Any = None) -> Any:
    """Return a form for each rate of a version, and some for new products."""
    rates = newest.rates.order_by("id") if newest else []
    initial = [
        {
            "product": rate.product,
            "label": rate.label,
            "component": rate.component,
            "unit": rate.unit,
            "rate": amounts.typed(rate.rate_micros),
            "minimum_ms": rate.minimum_ms,
            "increment_ms": rate.increment_ms,
        }
        for rate in rates
    ]
    forms_ = _formset(data, prefix="rates", initial=initial)
    for form in forms_.extra_forms:
        form.fields["minimum_ms"].initial, form.fields["increment_ms"].initial = 0, 1000
    return forms_


def document(form: PricesForm, rates: Any) -> dict[str, Any]:
    """Return what was entered, as `price_documents` reads one version."""
    names = ("grace_ms", "free_ms", "token_threshold", "note")
    return {
        **{name: form.cleaned_data[name] for name in names},
        "starts_at": form.cleaned_data["starts_at"].astimezone(UTC).isoformat(),
        "rates": [each.entry for each in rates.forms if each.is_priced],
    }


def newest_of(book: PriceBook) -> PriceVersion | None:
    """Return the version that a new one follows."""
    return book.versions.order_by("-starts_at", "-id").first()
