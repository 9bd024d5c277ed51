"""What people fill in about caps and alerts. Amounts are typed in the currency's major unit, and kept in micros."""

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from billing_portal.ledger import alerts, limits
from billing_portal.ledger.models import SpendLimit
from billing_portal.portal import formats
from billing_portal.portal.forms import EmailsField
from usage.money import MICROS_PER_UNIT


class MoneyField(forms.DecimalField):
    """An amount in major units; its value is micros."""

    def __init__(self, currency: str, *, least: str = "0", **options: Any) -> None:
        digits = formats.minor_digits(currency)
        attrs = {"inputmode": "decimal", "autocomplete": "off"}
        widget = forms.TextInput(attrs=attrs)
        super().__init__(
            min_value=Decimal(least), max_digits=9 + digits, decimal_places=digits, widget=widget, **options
        )

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount * MICROS_PER_UNIT)

    @staticmethod
    def shown(micros: int | None, currency: str) -> str:
        """Return micros as they are typed."""
        return "" if micros is None else f"{Decimal(micros) / MICROS_PER_UNIT:.{formats.minor_digits(currency)}f}"


class PercentsField(forms.CharField):
    """Percentages, separated by commas or spaces; its value is a tuple of them."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(required=False, max_length=100, **options)
        self.most = most

    def clean(self, value: Any) -> Any:
        words = [word.rstrip("%") for word in re.split(r"[\s,;]+", super().clean(value)) if word.rstrip("%")]
        if any(not re.fullmatch(r"[0-9]{1,4}", word, re.ASCII) or not 1 <= int(word) <= self.most for word in words):
            raise ValidationError(f"Whole percentages from 1 to {self.most}, such as 50, 80, 100.")
        if len(words) > 10:
            raise ValidationError("At most ten thresholds.")
        return tuple(sorted({int(word) for word in words}))


class CapForm(forms.Form):
    """The monthly cap. `confirm` is asked for only where the cap would stop usage at once."""

    mode = forms.ChoiceField(
        label="When the cap is reached",
        choices=[("stop", "Stop usage: new calls are refused"), ("warn", "Only warn: calls go on")],
        widget=forms.RadioSelect,
    )
    outbound_percent = forms.IntegerField(
        label="Refuse outbound calls from",
        min_value=1,
        max_value=100,
        help_text="Percent of the cap. Below 100, outbound calls stop first and the rest is kept for inbound ones.",
    )
    inbound_percent = forms.IntegerField(
        label="Keep inbound calls until",
        min_value=100,
        max_value=200,
        help_text="Percent of the cap. Above 100, your callers still get through for a while.",
    )
    finishes_live_calls = forms.BooleanField(
        label="Calls that are running may finish",
        required=False,
        help_text="Otherwise the platform is told to end them when usage stops.",
    )
    confirm = forms.BooleanField(label="Yes, stop usage now", required=False)
    field_order = ["cap", "mode", "outbound_percent", "inbound_percent", "finishes_live_calls", "confirm"]

    def __init__(self, data: Any = None, *, currency: str, limit: SpendLimit | None) -> None:
        initial = {
            "cap": MoneyField.shown(limit.cap_micros if limit else None, currency),
            "mode": limit.mode if limit else "stop",
            "outbound_percent": limit.outbound_percent if limit else 100,
            "inbound_percent": limit.inbound_percent if limit else 100,
            "finishes_live_calls": limit.finishes_live_calls if limit else True,
        }
        super().__init__(data, initial=initial)
        self.fields["cap"] = MoneyField(
            currency,
            label=f"Monthly cap in {currency}",
            required=False,
            help_text="All usage of the month counts, whether credit or your card pays. Empty: no cap.",
        )
        self.order_fields(self.field_order)
        self.asks_to_confirm = False

    def terms(self) -> limits.Terms:
        """Return the cap as the ledger takes it."""
        cleaned = self.cleaned_data
        return limits.Terms(
            cap_micros=cleaned["cap"],
            mode=SpendLimit.Mode(cleaned["mode"]),
            outbound_percent=cleaned["outbound_percent"],
            inbound_percent=cleaned["inbound_percent"],
            finishes_live_calls=cleaned["finishes_live_calls"],
        )


class AlertsForm(forms.Form):
    """At what to tell whom."""

    spend_percents = PercentsField(
        alerts.MOST_PERCENT, label="Spend, in percent", help_text="Of your budget, or without one of the cap."
    )
    credit_percents = PercentsField(
        100, label="Credit used, in percent", help_text="Of what there was when the last credit came in."
    )
    bucket_percents = PercentsField(
        100, label="Buckets used, in percent", help_text="Of all that is in the bucket, for each bucket by itself."
    )
    recipients = EmailsField(
        most=alerts.MOST_RECIPIENTS,
        label="Send to",
        required=False,
        help_text="One address a line. Empty: your billing address and billing managers.",
    )
    field_order = ["budget", "spend_percents", "credit_percents", "bucket_percents", "recipients"]

    def __init__(self, data: Any = None, *, currency: str, terms: alerts.Terms) -> None:
        initial = {
            "budget": MoneyField.shown(terms.budget_micros, currency),
            "spend_percents": ", ".join(map(str, terms.spend_percents)),
            "credit_percents": ", ".join(map(str, terms.credit_percents)),
            "bucket_percents": ", ".join(map(str, terms.bucket_percents)),
            "recipients": "\n".join(terms.recipients),
        }
        super().__init__(data, initial=initial)
        self.fields["budget"] = MoneyField(
            currency,
            least="0.01" if formats.minor_digits(currency) else "1",
            label=f"Monthly budget in {currency}",
            required=False,
            help_text="It stops nothing. Empty: alerts follow the cap.",
        )
        self.order_fields(self.field_order)

    def terms(self) -> alerts.Terms:
        """Return the settings as the ledger takes them."""
        cleaned = self.cleaned_data
        return alerts.Terms(
            spend_percents=cleaned["spend_percents"],
            credit_percents=cleaned["credit_percents"],
            bucket_percents=cleaned["bucket_percents"],
            budget_micros=cleaned["budget"],
            recipients=cleaned["recipients"],
        )
