"""The completeness seal in words: until when every call is here, what is missing, what was rejected."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from django.conf import settings

from accounts.models import Organization
from billing_portal.portal import formats
from usage import completeness, intake_log
from usage.completeness import Gap, Source
from usage.models import Rejection

# Rejections older than this were seen by whoever cares.
RECENT = timedelta(days=30)
_GAPS_SHOWN = 20
_REJECTIONS_SHOWN = 20
_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class ShownSeal:
    """The seal as pages show it. `rejected` says how many calls were refused lately and are still not recorded."""

    headline: str
    tone: str
    icon: str
    gaps: list[str]
    more_gaps: int
    rejected: str
    sources: list[Source]


def of(organization: Organization, *, now: datetime) -> ShownSeal:
    """Return the organization's seal in words, in its time zone."""
    found = completeness.seal(organization.pk, now=now)
    count = intake_log.count_open_rejections(organization.pk, since=now - RECENT, most=_COUNTED)
    rejected = f"{formats.quantity(count)}{'+' if count == _COUNTED else ''} rejected" if count else "none rejected"
    until = _when(found.complete_to, now, organization.zone) if found.complete_to else ""
    gaps = found.gaps
    if not found.sources:
        state = (
            f"No gaps can be seen: {settings.VENDOR_NAME} does not number its calls yet",
            "neutral",
            "circle-question-mark",
        )
    elif gaps:
        missing = formats.quantity(found.missing)
        state = f"{missing} missing" + (f", complete to {until}" if until else ""), "bad", "shield-alert"
    elif found.arriving:
        state = f"Complete to {until}, {formats.quantity(found.arriving)} arriving", "neutral", "shield-ellipsis"
    else:
        state = (f"Complete to {until}, no gaps" if until else "No gaps"), "good", "shield-check"
    headline, tone, icon = state
    several = len(found.sources) > 1
    return ShownSeal(
        headline=headline,
        tone="warn" if count and tone == "good" else tone,
        icon=icon,
        gaps=[_gap(name if several else "", gap, now, organization.zone) for name, gap in gaps[:_GAPS_SHOWN]],
        more_gaps=max(len(gaps) - _GAPS_SHOWN, 0),
        rejected=rejected,
        sources=found.sources,
    )


def rejections(organization: Organization, *, now: datetime) -> list[Rejection]:
    """Return the calls refused lately that are still not recorded, the newest first."""
    return intake_log.open_rejections(organization.pk, since=now - RECENT, limit=_REJECTIONS_SHOWN)


def _gap(source: str, gap: Gap, now: datetime, zone: tzinfo) -> str:
    """Say a gap: "3 missing between #1,041 and #1,045 since 13:58"."""
    between = f"between #{formats.quantity(gap.after)} and #{formats.quantity(gap.before)}"
    of_source = f" of {source}" if source else ""
    return f"{formats.quantity(gap.missing)} missing {between}{of_source} since {_when(gap.since, now, zone)}"


def _when(at: datetime, now: datetime, zone: tzinfo) -> str:
    """Return the time of an instant of today, and the day too of any other."""
    local = at.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == now.astimezone(zone).date() else formats.moment(at, zone)
