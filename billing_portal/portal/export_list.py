"""Exports as the page shows them: formats to choose from, files that are there or on their way."""

from dataclasses import dataclass
from datetime import timedelta

from django.http import QueryDict
from django.template.defaultfilters import filesizeformat

from accounts.models import Organization
from billing_portal.portal import call_list
from usage import calls, periods
from usage.exports import jobs
from usage.exports.formats import FORMATS, Format
from usage.models import Export

# Nobody needs to know exactly how many more there are, and counting has its price.
COUNTED = 1_200_000
_SHOWN = 20
_INSTANT = timedelta(microseconds=1)
_TONES = {
    Export.State.READY: "good",
    Export.State.FAILED: "bad",
    Export.State.WAITING: "info",
    Export.State.WRITING: "info",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One format for so many calls: how large its file will be, roughly, and what happens when it is asked for."""

    name: str
    label: str
    note: str
    size: str
    is_possible: bool
    is_at_once: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the page's table."""

    export: Export
    file_name: str
    tone: str
    is_ready: bool


def choices(count: int) -> list[Choice]:
    """Return the formats for so many calls."""
    return [
        Choice(
            name=name,
            label=each.label,
            note=each.note,
            size=filesizeformat(each.bytes_anyway + each.bytes_a_call * count),
            is_possible=each.most is None or count <= each.most,
            is_at_once=is_at_once(each, count),
        )
        for name, each in FORMATS.items()
    ]


def is_at_once(chosen: Format, count: int) -> bool:
    """Say whether a file of so many calls is answered at once, instead of being written in the background."""
    return count <= chosen.at_once


def of(organization: Organization) -> list[Shown]:
    """Return the organization's latest exports."""
    latest = Export.objects.filter(organization=organization).select_related("organization", "asked_by")
    return [
        Shown(
            export=export,
            file_name=file_name(export),
            tone=_TONES.get(Export.State(export.state), "neutral"),
            is_ready=export.state == Export.State.READY,
        )
        for export in latest[:_SHOWN]
    ]


def in_words(filters: call_list.Filters) -> list[tuple[str, str]]:
    """Return what is filtered by besides the days, for people."""
    named = (
        ("Product", filters.product),
        ("Agent", filters.agent),
        ("Status", call_list.label(filters.status) if filters.status else ""),
        ("Direction", call_list.label(filters.direction) if filters.direction else ""),
        ("Call id begins with", filters.call_id),
        (f"Metadata {filters.key}", filters.value if filters.key else ""),
    )
    return [(label, value) for label, value in named if value]


def carried(query: QueryDict) -> list[tuple[str, str]]:
    """Return the parameters of the list that go with the form, so that it asks for the very calls that were shown."""
    return [
        (name, str(value))
        for name, value in query.items()
        if name not in ("cursor", "sort", "format", "csrfmiddlewaretoken")
    ]


def file_name(export: Export) -> str:
    """Return what the file is called when it is fetched."""
    return name_of(export.organization, jobs.filters_of(export), FORMATS[export.format])


def name_of(organization: Organization, filters: calls.Filters, chosen: Format) -> str:
    """Return what a file is called: whose, and of which days."""
    days = [
        f"{periods.day_of(instant, organization.zone):%Y-%m-%d}"
        for instant in (filters.starts_at, filters.ends_at and filters.ends_at - _INSTANT)
        if instant
    ]
    kind = "focus" if chosen is FORMATS["focus"] else "calls"
    return "-".join([organization.reference, kind, *dict.fromkeys(days)]) + f".{chosen.extension}"
