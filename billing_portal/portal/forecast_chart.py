"""The month as a line: what it came to day by day, and the range in which it may end."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from billing_portal.ledger.forecast import Forecast
from usage import periods

WIDTH, HEIGHT = 600, 120


@dataclass(frozen=True)
class ForecastChart:
    """Paths in a box of WIDTH × HEIGHT, which the page stretches; `cap_y` is None without a cap in sight."""

    actual: str
    expected: str
    band: str
    cap_y: float | None
    width: int = WIDTH
    height: int = HEIGHT


def of_month(
    days: Mapping[date, int], forecast: Forecast, *, today: date, spent_micros: int, cap_micros: int | None
) -> ForecastChart:
    """Return the running total of the month, up to today as it was, from there as it is expected.

    Calls of earlier months may be billed in this one: they lift the whole line, so that it ends at what is spent.
    """
    starts_on = today.replace(day=1)
    length = (periods.next_month(starts_on) - starts_on).days
    late = spent_micros - sum(micros for day, micros in days.items() if starts_on <= day <= today)
    top = max(forecast.high_micros, spent_micros, 1)
    # A cap far above all that may come would press the line flat.
    shown_cap = cap_micros if cap_micros is not None and cap_micros <= 2 * top else None
    top = max(top, shown_cap or 0)

    def point(day_number: int, micros: float) -> str:
        return f"{day_number * WIDTH / length:.1f} {_y(micros, top):.1f}"

    total = late
    actual = [point(0, total)]
    for number in range(today.day):
        total += days.get(starts_on + timedelta(days=number), 0)
        actual.append(point(number + 1, total))
    rest = forecast.expected_micros - spent_micros
    ahead, lows, highs = [point(today.day, spent_micros)], [], []
    reached = 0
    for number, (_, micros) in enumerate(forecast.rest[1:], start=today.day + 1):
        reached += micros
        part = reached / rest if rest else 1
        ahead.append(point(number, spent_micros + rest * part))
        lows.append(point(number, spent_micros + (forecast.low_micros - spent_micros) * part))
        highs.append(point(number, spent_micros + (forecast.high_micros - spent_micros) * part))
    band = [ahead[0], *highs, *reversed(lows)]
    return ForecastChart(
        actual="M" + "L".join(actual),
        expected="M" + "L".join(ahead),
        band="M" + "L".join(band) + "Z" if lows else "",
        cap_y=None if shown_cap is None else round(_y(shown_cap, top), 1),
    )


def _y(micros: float, top: int) -> float:
    return HEIGHT - 2 - micros / top * (HEIGHT - 6)
