"""Giving up numbers of calls that will never come, because they were no calls."""

from datetime import datetime
from typing import Any

from django import forms

from billing_portal.ledger.models import Account
from billing_portal.support.kinds.base import Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction
from usage import completeness
from usage.completeness import Gap

_OFFERED = 100


def gaps_of(account: Account, *, now: datetime) -> list[tuple[str, Gap]]:
    """Return the gaps in an organization's calls with their sources, the oldest first."""
    return completeness.seal(account.organization_id, now=now).gaps[:_OFFERED]


def name_of(source: str, gap: Gap) -> str:
    """Return what a form calls a gap."""
    return f"{gap.after + 1}-{gap.before - 1}-{source}"


class GapForm(ParamsForm):
    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        self.fields["gap"] = forms.ChoiceField(
            label="Missing numbers",
            choices=[
                (name_of(source, gap), f"{gap.missing:,} of {source}, between #{gap.after:,} and #{gap.before:,}")
                for source, gap in gaps_of(account, now=self.now)
            ],
            help_text="Only those that the platform's own records show were no calls.",
        )

    def params(self) -> dict[str, Any]:
        first, last, source = self.cleaned_data["gap"].split("-", 2)
        return {"source": source, "first": int(first), "last": int(last)}


class GiveUpNumbers(Kind):
    name = "give_up_numbers"
    label = "Give up missing numbers"
    explanation = "For numbers that were never calls. Nothing is recorded or charged; they are no longer waited for."
    form = GapForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int | None:
        return None

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        found = [gap for source, gap in gaps_of(account, now=now) if source == params["source"]]
        gap = next((gap for gap in found if (gap.after + 1, gap.before - 1) == (params["first"], params["last"])), None)
        if gap is None:
            raise Refused("Some of these numbers have arrived by now. Look at what is still missing.")
        return [
            Change("No longer waited for", note=f"{gap.missing:,} of source {params['source']}"),
            Change("If one arrives after all", note="Its call is recorded and charged as any other."),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        params = action.params
        completeness.give_up(
            action.organization_id, params["source"], first=params["first"], last=params["last"], now=now
        )
