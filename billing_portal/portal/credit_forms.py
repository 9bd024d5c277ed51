"""What customers fill in to buy credit, and to have it bought. Amounts are typed in major units and read as micros."""

from decimal import Decimal
from typing import Any

from django import forms

from billing_portal.billing import purchases, top_ups
from billing_portal.billing.models import PaymentMethod, Purchase, TopUp
from billing_portal.portal import formats
from usage.money import MICROS_PER_UNIT


class MoneyField(forms.DecimalField):
    """An amount of one currency, typed as "50" or "37.50"; its value is micros."""

    def __init__(self, currency: str, **options: Any) -> None:
        self.currency = currency
        digits = formats.minor_digits(currency)
        places = f"at most {digits} decimals" if digits else "no decimals"
        attrs = {"inputmode": "decimal" if digits else "numeric", "autocomplete": "off"}
        super().__init__(
            max_digits=15,
            decimal_places=digits,
            widget=forms.TextInput(attrs=attrs),
            error_messages={
                "invalid": "Enter an amount as digits, like 50.",
                "max_decimal_places": f"Enter an amount with {places}.",
                "max_digits": "Enter a smaller amount.",
                "max_whole_digits": "Enter a smaller amount.",
            },
            **options,
        )

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount * MICROS_PER_UNIT)

    def prepare_value(self, value: Any) -> Any:
        """Show micros as they would be typed."""
        return typed(value, self.currency) if isinstance(value, int) else value


def typed(micros: int, currency: str) -> str:
    """Return an amount as a person would type it: "50", "37.50"."""
    amount = Decimal(micros) / MICROS_PER_UNIT
    if amount == amount.to_integral_value():
        return f"{amount:.0f}"
    return f"{amount:.{formats.minor_digits(currency)}f}"


def refusal(error: purchases.AmountRefused) -> str:
    """Say in words which amounts may be bought."""
    terms = error.terms
    least, most = (formats.money(m, terms.currency) for m in (terms.minimum_micros, terms.maximum_micros))
    return f"Enter an amount from {least} to {most}."


class AmountForm(forms.Form):
    """How much credit to buy."""

    def __init__(self, data: Any = None, *, terms: purchases.Terms) -> None:
        super().__init__(data)
        self.terms = terms
        least, most = (formats.money(m, terms.currency) for m in (terms.minimum_micros, terms.maximum_micros))
        help_text = f"From {least} to {most}, before tax."
        self.fields["amount"] = MoneyField(terms.currency, label=f"Amount in {terms.currency}", help_text=help_text)

    def clean_amount(self) -> int:
        micros: int = self.cleaned_data["amount"]
        try:
            purchases.check_amount(micros, self.terms.currency)
        except purchases.AmountRefused as error:
            raise forms.ValidationError(refusal(error)) from error
        return micros


class PayForm(AmountForm):
    """The confirmed purchase. `key` is minted with the form; `card` is the one that was shown."""

    currency = forms.CharField(max_length=3, widget=forms.HiddenInput)
    key = forms.UUIDField(widget=forms.HiddenInput)
    card = forms.ModelChoiceField(queryset=PaymentMethod.objects.none(), required=False, widget=forms.HiddenInput)
    way = forms.ChoiceField(choices=Purchase.Way.choices)

    def __init__(self, data: Any = None, *, terms: purchases.Terms, cards: Any) -> None:
        super().__init__(data, terms=terms)
        card = self.fields["card"]
        assert isinstance(card, forms.ModelChoiceField)
        card.queryset = cards


class TopUpForm(forms.Form):
    """The terms of a standing order."""

    def __init__(self, data: Any = None, *, terms: purchases.Terms, order: TopUp | None) -> None:
        super().__init__(data, initial=_first_terms(terms, order))
        self.terms = terms
        self.fields["threshold"] = MoneyField(
            terms.currency,
            label="When credit falls below",
            help_text="Sooner when usage is fast: it is bought before the next hour's expected use would reach zero.",
        )
        self.fields["amount"] = MoneyField(terms.currency, label="Buy", help_text="Before tax.")
        self.fields["ceiling"] = MoneyField(
            terms.currency, label="At most in a month", help_text="Before tax; nothing is bought beyond it."
        )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            self._check(cleaned)
        return cleaned

    def _check(self, cleaned: dict[str, Any]) -> None:
        try:
            top_ups.check_terms(**self.micros(), currency=self.terms.currency)
        except purchases.AmountRefused as error:
            self.add_error("amount", refusal(error))
        except top_ups.ThresholdRefused:
            most = formats.money(self.terms.maximum_micros, self.terms.currency)
            self.add_error("threshold", f"Enter an amount from 0 to {most}.")
        except top_ups.CeilingTooLow:
            self.add_error("ceiling", "Enter at least the amount of one purchase.")

    def micros(self) -> dict[str, int]:
        """Return the terms as the domain names them."""
        names = ("threshold", "amount", "ceiling")
        return {f"{name}_micros": self.cleaned_data[name] for name in names}


def _first_terms(terms: purchases.Terms, order: TopUp | None) -> dict[str, int]:
    """Return what the form begins with: the last order's terms, or the second of the amounts on offer."""
    if order is not None:
        return {
            "threshold": order.threshold_micros,
            "amount": order.amount_micros,
            "ceiling": order.ceiling_micros,
        }
    amount = (*terms.presets_micros, terms.minimum_micros)[:2][-1]
    return {"threshold": terms.minimum_micros, "amount": amount, "ceiling": 4 * amount}
