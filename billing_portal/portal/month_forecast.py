"""The month's forecast as pages show it: numbers and a small picture, from daily totals."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from accounts.models import Organization
from billing_portal.ledger import forecast
from billing_portal.ledger.forecast import Forecast
from billing_portal.ledger.standing import Standing
from billing_portal.portal import forecast_chart
from billing_portal.portal.forecast_chart import ForecastChart
from usage import periods, rollups
from usage.outcomes import summaries

_DAYS = 75


@dataclass(frozen=True)
class MonthForecast:
    """The forecast with its picture."""

    forecast: Forecast
    chart: ForecastChart


def of(organization: Organization, found: Standing, *, now: datetime) -> MonthForecast | None:
    """Forecast the running month; None where there is less than a week to go by."""
    today = periods.day_of(now, organization.zone)
    days: Counter[date] = Counter()
    first = today - timedelta(days=_DAYS)
    for (day, _), micros in rollups.by_day(organization.pk, starts_on=first, ends_on=today).items():
        days[day] += micros
    days.update(summaries.micros_by_day(organization.pk, starts_on=first, ends_on=today))
    expected = forecast.of_month(days, today=today, spent_micros=found.spent_micros)
    if expected is None:
        return None
    cap = found.cap_micros
    chart = forecast_chart.of_month(days, expected, today=today, spent_micros=found.spent_micros, cap_micros=cap)
    return MonthForecast(expected, chart)
