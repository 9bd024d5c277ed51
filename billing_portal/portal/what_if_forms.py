"""What people choose to compare their own calls with."""

from typing import Any

from django import forms

from billing_portal.portal import formats
from usage.models import Component, PriceVersion
from usage.snapshots import Rate
from usage.what_if import jobs
from usage.what_if.choices import Choice, Offer

AS_IT_WAS = ("", "As it was")
_UNIT = {"minute": "a minute", "second": "a second", "call": "a call", "thousand_tokens": "for 1,000 tokens"}
_LABELS = {Component.VOICE: "Voice engine", Component.LLM: "Language model", Component.TELEPHONY: "Telephony"}


class WhatIfForm(forms.Form):
    """Another plan, model, voice or telephony, and for how many months."""

    plan = forms.TypedChoiceField(
        label="Prices",
        coerce=int,
        empty_value=None,
        required=False,
        help_text="As it was: each call at the prices it was charged by.",
    )
    llm = forms.ChoiceField(label=_LABELS[Component.LLM], required=False)
    voice = forms.ChoiceField(label=_LABELS[Component.VOICE], required=False)
    telephony = forms.ChoiceField(label=_LABELS[Component.TELEPHONY], required=False)
    months = forms.TypedChoiceField(
        label="Months",
        coerce=int,
        choices=[(number, f"The last {number}" if number > 1 else "The last one") for number in (1, 2, 3, 6, 9, 12)],
        initial=3,
        help_text="Months that are over, as they were billed.",
    )

    def __init__(self, data: Any = None, *, offered: Offer, currency: str) -> None:
        super().__init__(data)
        names = plan_names([plan.version_id for plan in offered.plans])
        self._offer("plan", [(str(plan.version_id), names[plan.version_id]) for plan in offered.plans])
        for component, rates in offered.products.items():
            self._offer(component, [(rate.product, priced(rate, currency)) for rate in rates])
        assert jobs.MOST_MONTHS >= 12

    @property
    def choice(self) -> Choice:
        """What was chosen; only of a valid form."""
        values = self.cleaned_data
        return Choice(values["plan"], values["voice"], values["llm"], values["telephony"])

    def _offer(self, name: str, options: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [AS_IT_WAS, *options]


def priced(rate: Rate, currency: str) -> str:
    """Return a product with its rate, as it is offered: "GPT-5, $0.04 a minute"."""
    amount = formats.money_exact(rate.rate_micros, currency)
    return f"{rate.label or rate.product}, {amount} {_UNIT.get(rate.unit, '')}".strip()


def plan_names(version_ids: list[int]) -> dict[int, str]:
    """Return what price versions are called."""
    versions = PriceVersion.objects.filter(pk__in=version_ids).select_related("book")
    return {version.pk: f"{version.book.name}, version {version.number}" for version in versions}
