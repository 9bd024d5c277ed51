"""The form in which staff propose outcome rules; it begins with the rules that are in the book."""

import uuid
from datetime import UTC
from typing import Any

from django import forms

from billing_portal.support import amounts
from usage.models import OutcomeRuleVersion, OutcomeType, PriceBook, ReplyKind
from usage.money import MICROS_PER_UNIT
from usage.price_documents import MAX_RATE_MICROS

_PLACES = ("first", "second", "third", "fourth")
_LABELS = ("Counts first", "Counts second", "Counts third", "Counts last")
_OUTCOMES = [("", "–"), *OutcomeType.choices]


class RulesForm(forms.Form):
    """One version of the rules, why, and the key that makes a double submit one proposal."""

    starts_at = forms.DateTimeField(
        label="In force from (UTC)",
        help_text="For conversations that begin from then on. It must be in the future: customers are told before.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    window_hours = forms.IntegerField(
        label="Hours of silence after which a resolution is assumed", min_value=1, max_value=24 * 90
    )
    confirming_replies = forms.MultipleChoiceField(
        choices=ReplyKind.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Replies that confirm a resolution",
    )
    confirming_rating = forms.IntegerField(
        label="Rating that confirms it",
        min_value=1,
        max_value=5,
        required=False,
        help_text="This or more. Empty: none.",
    )
    reversing_replies = forms.MultipleChoiceField(
        choices=ReplyKind.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Replies that take it back",
    )
    reversing_rating = forms.IntegerField(
        label="Rating that takes it back",
        min_value=1,
        max_value=5,
        required=False,
        help_text="This or less. Empty: none.",
    )
    escalation_reverses = forms.BooleanField(label="Handing over to a person takes it back", required=False)
    closing_decides = forms.BooleanField(label="Closing the conversation decides at once", required=False)
    note = forms.CharField(max_length=200, required=False, help_text="Customers read it. What this version is about.")
    reason = forms.CharField(
        label="Why",
        max_length=200,
        help_text="For whoever has to decide. Customers do not read it.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, book: PriceBook, newest: OutcomeRuleVersion | None) -> None:
        super().__init__(data, initial={"key": uuid.uuid4(), **_values(newest)})
        for place, label in zip(_PLACES, _LABELS, strict=True):
            self.fields[place] = forms.ChoiceField(choices=_OUTCOMES, required=place == "first", label=label)
        for outcome in OutcomeType:
            self.fields[f"price_{outcome}"] = forms.DecimalField(
                label=f"{outcome.label}: price of one, in {book.currency}",
                min_value=0,
                max_value=MAX_RATE_MICROS // MICROS_PER_UNIT,
                decimal_places=6,
                required=False,
                help_text="Empty: never charged.",
            )
        self.order_fields(["starts_at", *_PLACES, *(f"price_{outcome}" for outcome in OutcomeType), *self.fields])

    @property
    def document(self) -> dict[str, Any]:
        """What was entered, as `rule_documents` reads it."""
        entered = self.cleaned_data
        names = ("confirming_replies", "reversing_replies", "window_hours", "note")
        ratings = {name: entered[name] for name in ("confirming_rating", "reversing_rating")}
        prices = {str(each): entered[f"price_{each}"] for each in OutcomeType}
        return {
            **{name: entered[name] for name in (*names, "escalation_reverses", "closing_decides")},
            **{name: rating for name, rating in ratings.items() if rating is not None},
            "starts_at": entered["starts_at"].astimezone(UTC).isoformat(),
            "precedence": [entered[place] for place in _PLACES if entered[place]],
            "prices": {outcome: f"{price:f}" for outcome, price in prices.items() if price is not None},
        }

    def refuse(self, path: str, reason: str) -> None:
        """Show what is wrong with a document beside the field that it stands in."""
        name, _, rest = path.partition(".")
        shown = {"precedence": "first", "prices": f"price_{rest}" if rest else "first"}.get(name, name)
        self.add_error(shown if shown in self.fields else None, reason)


def _values(version: OutcomeRuleVersion | None) -> dict[str, Any]:
    """Return what the form begins with: the newest version, from no instant on."""
    if version is None:
        return {"window_hours": 24, "escalation_reverses": True}
    prices = {f"price_{each.outcome}": amounts.typed(each.price_micros) for each in version.prices.all()}
    return {
        **dict(zip(_PLACES, version.precedence, strict=False)),
        **prices,
        "window_hours": version.window_seconds // 3600,
        "confirming_replies": version.confirming_replies,
        "reversing_replies": version.reversing_replies,
        "confirming_rating": version.confirming_rating,
        "reversing_rating": version.reversing_rating,
        "escalation_reverses": version.escalation_reverses,
        "closing_decides": version.closing_decides,
    }
