"""What-ifs as pages show them: what was chosen, what it comes to, by component and by month, and as a file."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from accounts.models import Organization
from billing_portal.portal import formats, what_if_forms
from billing_portal.portal.charts import frame, waterfall
from billing_portal.portal.charts.waterfall import Step, Waterfall
from usage import rollups
from usage.before_after import Row
from usage.models import WhatIf
from usage.what_if import jobs
from usage.what_if.rerating import MonthRated

_SHOWN = 20
_TONES = {
    WhatIf.State.READY: "good",
    WhatIf.State.FAILED: "bad",
    WhatIf.State.WAITING: "info",
    WhatIf.State.RATING: "info",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One what-if. The sums are of the months that are rated so far."""

    what_if: WhatIf
    title: str
    period: str
    tone: str
    total: Row
    difference: str
    percent: str
    calls: int
    kept_calls: int
    components: tuple[Row, ...]
    months: tuple[Row, ...]

    @property
    def done(self) -> int:
        return len(self.what_if.results)

    @property
    def most(self) -> int:
        return len(self.what_if.months)


def of(organization: Organization) -> list[Shown]:
    """Return the organization's what-ifs, the latest first."""
    rows = list(WhatIf.objects.filter(organization=organization).select_related("asked_by")[:_SHOWN])
    return _shown(rows, organization.currency)


def one(what_if: WhatIf, currency: str) -> Shown:
    """Return one what-if as it is shown."""
    return _shown([what_if], currency)[0]


def picture(shown: Shown, currency: str) -> Waterfall:
    """Return the way from what was charged to what would have been, component by component."""
    return waterfall.of(
        Step("now", "As charged", shown.period, shown.total.before_micros, is_total=True),
        [Step(each.label, each.label, _detail(each, currency), each.change_micros) for each in shown.components],
        Step("then", "As chosen", shown.title, shown.total.after_micros, is_total=True),
        currency=currency,
    )


def sentence(shown: Shown, currency: str) -> str:
    """Return the answer in words."""
    difference, then = _difference(shown.total, currency), formats.money(shown.total.after_micros, currency)
    if not difference:
        return f"The same calls would have cost the same: {then}."
    more = "more" if difference > 0 else "less"
    amount = formats.money(abs(difference), currency)
    return f"The same calls would have cost {then}: {amount} {more} than they did ({shown.percent})."


def as_csv(what_if: WhatIf, currency: str) -> bytes:
    """Return the amounts by month and component, in micros."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["month", "component", "currency", "as_charged_micros", "as_chosen_micros", "difference_micros"])
    for month in jobs.results_of(what_if):
        for component, _ in frame.COMPONENTS:
            now, then = month.now.get(component, 0), month.then.get(component, 0)
            if now or then:
                writer.writerow([f"{month.month:%Y-%m}", component, currency, now, then, then - now])
    return out.getvalue().encode()


def file_name(organization: Organization, what_if: WhatIf) -> str:
    """Return what the file is called."""
    return f"{organization.reference}-what-if-{what_if.months[0][:7]}-{what_if.months[-1][:7]}.csv"


def _difference(amounts: Row, currency: str) -> int:
    """Return the difference of the two amounts as they are shown."""
    return waterfall.shown_changes(amounts.before_micros, [amounts.change_micros], currency=currency)[0]


def _shown(rows: Sequence[WhatIf], currency: str) -> list[Shown]:
    plans = what_if_forms.plan_names([row.plan_version_id for row in rows if row.plan_version_id is not None])
    labels = rollups.labels()
    return [_of(row, _title(row, plans, labels), currency) for row in rows]


def _of(row: WhatIf, title: str, currency: str) -> Shown:
    results = jobs.results_of(row)
    total = _amounts("Total", results)
    months = [date.fromisoformat(month) for month in row.months]
    return Shown(
        what_if=row,
        title=title,
        period=_period(months),
        tone=_TONES[WhatIf.State(row.state)],
        total=total,
        difference=formats.money_change(_difference(total, currency), currency),
        percent=formats.percent(total.change_micros, total.before_micros),
        calls=sum(each.calls for each in results),
        kept_calls=sum(each.kept_calls for each in results),
        components=tuple(
            amounts
            for component, label in frame.COMPONENTS
            if (amounts := _component(component, label, results)).before_micros or amounts.after_micros
        ),
        months=tuple(_amounts(formats.month(each.month), [each]) for each in results),
    )


def _component(component: str, label: str, results: Iterable[MonthRated]) -> Row:
    rows = list(results)
    return Row(
        label, sum(each.now.get(component, 0) for each in rows), sum(each.then.get(component, 0) for each in rows)
    )


def _amounts(label: str, results: Iterable[MonthRated]) -> Row:
    rows = list(results)
    return Row(label, sum(sum(each.now.values()) for each in rows), sum(sum(each.then.values()) for each in rows))


def _title(row: WhatIf, plans: dict[int, str], labels: dict[str, str]) -> str:
    """Return what was chosen: "GPT-5, Deepgram; List prices (USD), version 2"."""
    products = ", ".join(labels.get(name, name) for name in (row.llm, row.voice, row.telephony) if name)
    plan = plans.get(row.plan_version_id, "") if row.plan_version_id is not None else ""
    return "; ".join(part for part in (products, plan) if part)


def _period(months: Sequence[date]) -> str:
    first, last = formats.month(months[0]), formats.month(months[-1])
    return first if first == last else f"{first} to {last}"


def _detail(each: Row, currency: str) -> str:
    return f"{formats.money(each.before_micros, currency)} → {formats.money(each.after_micros, currency)}"
