"""Metadata keys: which of them usage is summed up by, how far that is, and which keys the calls have."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, queueing
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import usage_subjects
from usage import metadata_usage, periods, tasks
from usage.models import MetadataKey

_MONTHS = (("1", "This month and the last"), ("3", "Three months back"), ("12", "A year back"))


class KeyForm(forms.Form):
    """A key to count, and how far back."""

    key = forms.CharField(label="Key", max_length=64)
    months = forms.ChoiceField(label="Count calls of", choices=_MONTHS, initial="1")


@never_cache
@require_GET
@organization_view(Permission.VIEW_USAGE)
def metadata_keys(request: OrganizationRequest) -> HttpResponse:
    """Show the keys that are counted, and those that could be; htmx asks for the counted ones alone."""
    organization = request.organization
    keys = metadata_usage.keys_of(organization.pk)
    shown = [_shown(request, key) for key in keys]
    context: dict[str, Any] = {"shown": shown, "is_moving": any(not each["is_done"] for each in shown)}
    if request.htmx:
        return render(request, "portal/metadata.html#keys", context)
    known = {key.key for key in keys}
    context |= {
        "form": KeyForm(),
        "offered": [name for name, _ in metadata_usage.seen_keys(organization.pk) if name not in known],
        "most": metadata_usage.MOST_KEYS,
    }
    return render(request, "portal/metadata.html", context)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def metadata_key_new(request: OrganizationRequest) -> HttpResponse:
    """Have a key counted."""
    organization, now = request.organization, clock.now()
    form = KeyForm(request.POST)
    if not form.is_valid():
        for problems in form.errors.values():
            messages.error(request, " ".join(map(str, problems)))
        return redirect("metadata_keys", organization.public_id)
    starts_on = periods.month_of(now, organization.zone)
    for _ in range(int(form.cleaned_data["months"])):
        starts_on = periods.previous_month(starts_on)
    try:
        key = metadata_usage.track(
            organization=organization, key=form.cleaned_data["key"], starts_on=starts_on, now=now
        )
    except metadata_usage.TooManyKeys as refused:
        messages.error(request, str(refused))
    else:
        queueing.on_commit(tasks.count_metadata, key.pk)
        messages.success(request, f"Calls are being counted by {key.key}.")
    return redirect("metadata_keys", organization.public_id)


@require_POST
@organization_view(Permission.VIEW_USAGE)
def metadata_key_remove(request: OrganizationRequest) -> HttpResponse:
    """Forget a key's sums; the calls keep their metadata, so it can be counted anew."""
    key = request.POST.get("key", "").replace("\0", "")
    if metadata_usage.untrack(organization=request.organization, key=key):
        messages.success(request, f"Calls are no longer counted by {key}. You can have it counted anew at any time.")
    return redirect("metadata_keys", request.organization.public_id)


def _shown(request: OrganizationRequest, key: MetadataKey) -> dict[str, Any]:
    progress = metadata_usage.progress(key)
    here = reverse("usage", args=[request.organization.public_id])
    return {
        "key": key,
        "url": f"{here}?{urlencode({'by': usage_subjects.address_of(key), 'days': 'month'})}",
        "is_done": progress.is_done,
        "counted": progress.counted,
        "settled": progress.settled,
    }
