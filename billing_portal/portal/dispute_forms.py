"""What customers fill in to dispute something, and to write about it. Keys are minted with the forms."""

import uuid
from decimal import Decimal
from typing import Any

from django import forms

from billing_portal.billing import minor_units
from billing_portal.billing.models import Dispute
from usage.money import MICROS_PER_UNIT


class DisputeForm(forms.Form):
    """Why a subject is disputed, and how much of it the customer wants back."""

    reason = forms.ChoiceField(label="What is wrong?", choices=Dispute.Reason.choices)
    text = forms.CharField(
        label="What happened",
        max_length=4000,
        help_text="What you know and how you know it: the more exact, the sooner it is decided.",
        widget=forms.Textarea(attrs={"rows": 5}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, most_micros: int, currency: str, text: str = "") -> None:
        initial = {"key": uuid.uuid4(), "amount": exact(most_micros, currency), "text": text}
        super().__init__(data, initial=initial)
        self.fields["amount"] = forms.DecimalField(
            label=f"What you want back, in {currency}",
            help_text=f"At most {exact(most_micros, currency)}: what it cost.",
            min_value=Decimal("0.000001"),
            max_value=Decimal(most_micros) / MICROS_PER_UNIT,
            max_digits=20,
            decimal_places=6,
        )

    field_order = ["reason", "text", "amount"]

    @property
    def claimed_micros(self) -> int:
        """The amount entered, in micros."""
        return int(self.cleaned_data["amount"] * MICROS_PER_UNIT)


class MessageForm(forms.Form):
    """A further message in the thread."""

    text = forms.CharField(label="Your message", max_length=4000, widget=forms.Textarea(attrs={"rows": 3}))
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, initial={"key": uuid.uuid4()})


def exact(micros: int, currency: str) -> str:
    """Return micros in the major unit as a form takes them: all decimals that count, at least the currency's."""
    whole, fraction = divmod(micros, MICROS_PER_UNIT)
    decimals = f"{fraction:06d}".rstrip("0").ljust(minor_units.exponent(currency), "0")
    return f"{whole}.{decimals}" if decimals else str(whole)
