"""What developers fill in about their organization's API keys.

Times are chosen from a few, or typed in the organization's time zone: views validate and render under
`timezone.override`, which Django's own time fields follow.
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils.html import format_html

from accounts import api_keys
from accounts.models import ApiKey

Scope = ApiKey.Scope
SCOPES_IN_WORDS = {
    Scope.USAGE_READ: "Calls, each with its price line by line, and usage by day and component.",
    Scope.BILLING_READ: "Invoices, credit and statements.",
}
AT = "at"
_NEVER = "never"
_EXPIRES = [
    ("30", "In 30 days"),
    ("90", "In 90 days"),
    ("365", "In a year"),
    (_NEVER, "Never, until it is revoked"),
    (AT, "At a time I choose"),
]
_OVERLAPS = [
    ("0", "Not at all: it ends now"),
    ("1", "For one hour"),
    ("24", "For 24 hours"),
    ("168", "For 7 days"),
    (AT, "Until a time I choose"),
]


def _time_field(label: str, help_text: str = "") -> forms.DateTimeField:
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, required=False, widget=widget, help_text=help_text)


def _scopes_field() -> forms.MultipleChoiceField:
    choices = [
        (scope, format_html('<span>{}<span class="cell-sub">{}</span></span>', scope.label, SCOPES_IN_WORDS[scope]))
        for scope in api_keys.ORGANIZATION_SCOPES
    ]
    return forms.MultipleChoiceField(
        label="What it may do",
        choices=choices,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one."},
    )


class _TimedForm(forms.Form):
    """Reads a choice with the time beside it, and refuses a time that is past."""

    def __init__(self, data: Any = None, *, now: datetime, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial=initial)
        self.now = now

    def future(self, name: str) -> datetime | None:
        """Return the time in a field; add an error where it is past."""
        at: datetime | None = self.cleaned_data.get(name)
        if at is not None and at <= self.now:
            self.add_error(name, "This time is past. Choose a later one.")
        return at

    def chosen(self, choice: str, unit: timedelta) -> datetime | None:
        """Return the instant that a choice of so many units means, or the time typed for it; None for never."""
        value = self.cleaned_data.get(choice)
        if value == AT:
            if self.cleaned_data.get(f"{choice}_at") is None and f"{choice}_at" not in self.errors:
                self.add_error(f"{choice}_at", "Choose a time.")
            return self.future(f"{choice}_at")
        return None if value in (_NEVER, None) else self.now + int(value) * unit


class NewKeyForm(_TimedForm):
    """A new key. `token` is minted with the form, so that a double submit makes one."""

    name = forms.CharField(max_length=80, help_text="What uses it, such as “Nightly export”.")
    scopes = _scopes_field()
    expires = forms.ChoiceField(label="Expires", choices=_EXPIRES, initial="90")
    expires_at = _time_field("Expires at")
    token = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, now: datetime) -> None:
        super().__init__(data, now=now, initial={"token": uuid.uuid4(), "scopes": [Scope.USAGE_READ]})

    def clean(self) -> dict[str, Any]:
        """Put the instant at which the key expires where the typed time stood."""
        return self.cleaned_data | {"expires_at": self.chosen("expires", timedelta(days=1))}


class RotateForm(_TimedForm):
    """How long the old key goes on, and when the new one ends."""

    old_until = forms.ChoiceField(label="The old secret goes on working", choices=_OVERLAPS, initial="24")
    old_until_at = _time_field("The old secret works until")
    expires = forms.ChoiceField(label="The new secret expires", choices=_EXPIRES, initial="90")
    expires_at = _time_field("The new secret expires at")
    token = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, now: datetime, never_expires: bool) -> None:
        initial = {"token": uuid.uuid4(), "expires": _NEVER if never_expires else "90"}
        super().__init__(data, now=now, initial=initial)

    def clean(self) -> dict[str, Any]:
        """Put the instants where the typed times stood."""
        return self.cleaned_data | {
            "old_until_at": self.chosen("old_until", timedelta(hours=1)),
            "expires_at": self.chosen("expires", timedelta(days=1)),
        }


class KeyForm(_TimedForm):
    """What can be changed about a key that works."""

    name = forms.CharField(max_length=80)
    scopes = _scopes_field()
    expires_at = _time_field("Expires at", "Without a time it works until it is revoked.")

    def __init__(self, data: Any = None, *, now: datetime, key: ApiKey) -> None:
        initial = {"name": key.name, "scopes": key.scopes, "expires_at": key.expires_at}
        super().__init__(data, now=now, initial=initial)

    def clean(self) -> dict[str, Any]:
        """Refuse an end in the past."""
        self.future("expires_at")
        return self.cleaned_data
