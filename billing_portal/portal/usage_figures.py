"""The figures of a range of days, ready for the page: chart, shares, totals."""

from dataclasses import dataclass
from datetime import date

from accounts.models import Organization
from billing_portal.portal.charts import frame, share_bar, stacked
from usage import rollups
from usage.outcomes import summaries

_OUTCOMES = "others"  # the color that no component has


@dataclass(frozen=True, slots=True)
class Figures:
    """What a range of days came to. All parts rest on the same rollups."""

    chart: stacked.StackedChart
    shares: tuple[share_bar.Share, ...]
    total: rollups.Total


def of(organization: Organization, *, starts_on: date, ends_on: date) -> Figures:
    """Return the figures of the days, both included, in the organization's zone: components of calls, and outcomes."""
    amounts = rollups.by_day(organization.pk, starts_on=starts_on, ends_on=ends_on)
    of_outcomes = summaries.micros_by_day(organization.pk, starts_on=starts_on, ends_on=ends_on)
    chart = stacked.by_day(
        amounts | {(day, _OUTCOMES): micros for day, micros in of_outcomes.items()},
        starts_on=starts_on,
        ends_on=ends_on,
        currency=organization.currency,
        series=[*frame.COMPONENTS, (_OUTCOMES, "Outcomes")],
    )
    return Figures(
        chart=chart,
        shares=share_bar.shares((part.key, part.label, part.micros) for part in chart.series),
        total=rollups.total(organization.pk, starts_on=starts_on, ends_on=ends_on),
    )
