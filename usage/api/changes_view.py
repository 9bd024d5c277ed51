"""Why usage costs more or less than before: `GET /api/v1/usage/changes`."""

from datetime import date
from typing import Annotated

import msgspec
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from msgspec import Meta
from rest_framework.request import Request

from accounts import clock, replica
from accounts.models import Organization
from usage import changes, periods
from usage.api import description, queries
from usage.api.answers import Currency, Micros
from usage.api.keyed_views import KeyedView, answer, organization_of
from usage.causes import Cause, Explanation, Period, ProductChange, Side
from usage.changes import Span

_MONTH = {"pattern": "^[0-9]{4}-[0-9]{2}$"}
Month = Annotated[str, Meta(pattern="^20[0-9]{2}-(0[1-9]|1[0-2])$")]


class ChangesQuery(queries.OrganizationQuery, rename={"from_": "from"}):
    """Which days, or which billed month, compared with which."""

    from_: Annotated[
        str,
        Meta(
            description="The first day, in the organization's time zone. Without any parameter: this month's days that "
            "are over, compared with the same days of the month before.",
            extra_json_schema={"format": "date"},
        ),
    ] = ""
    to: Annotated[str, Meta(description="The last day, included.", extra_json_schema={"format": "date"})] = ""
    against_from: Annotated[
        str,
        Meta(
            description="The first day of those to compare with. By default the same days of the month before, or as "
            "many days right before.",
            extra_json_schema={"format": "date"},
        ),
    ] = ""
    against_to: Annotated[
        str, Meta(description="The last day of those to compare with.", extra_json_schema={"format": "date"})
    ] = ""
    billed_month: Annotated[
        Month, Meta(description="Instead of days: what was billed in this month, late calls included.")
    ] = ""
    against_billed_month: Annotated[
        Month, Meta(description="The billed month to compare with. By default the one before.")
    ] = ""


class ComparedPeriod(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """One of the two periods: its days, the month it was billed in where one was asked for, and its sums."""

    from_: date
    to: date
    billed_month: Annotated[str, Meta(extra_json_schema=_MONTH)] | None
    calls: int
    duration_ms: int
    llm_tokens: int
    micros: Micros


class ChangeStep(msgspec.Struct, frozen=True):
    """One cause and its part of the change."""

    cause: Cause
    micros: int


class ProductUse(msgspec.Struct, frozen=True):
    """A product in one period: the calls that named it, their milliseconds and tokens, and its micros."""

    calls: int
    duration_ms: int
    llm_tokens: int
    micros: Micros


class ChangedProduct(msgspec.Struct, frozen=True):
    """One product's change; its steps add up to it."""

    component: str
    product: str
    unit: str
    before: ProductUse
    after: ProductUse
    change_micros: int
    steps: list[ChangeStep]


class ChangeReport(msgspec.Struct, frozen=True):
    """Why usage costs more or less than before.

    `change_micros` is exactly the sum of `steps`, and of `products`; each product's steps add up to its change.
    """

    organization: str
    currency: Currency
    before: ComparedPeriod
    after: ComparedPeriod
    change_micros: int
    steps: list[ChangeStep]
    products: list[ChangedProduct]


class ChangesView(KeyedView):
    """The change of usage, split into its causes."""

    @description.reads("get_usage_changes", query=ChangesQuery, answer=ChangeReport)
    @method_decorator(replica.reads)
    def get(self, request: Request) -> HttpResponse:
        """Explain the change of settled usage from one period to another."""
        query = queries.read(request.query_params, ChangesQuery)
        organization = organization_of(request, query)
        before, after = _spans(query, today=periods.day_of(clock.now(), organization.zone))
        return answer(_report(organization, before, after, changes.between(organization.pk, before, after)))


def _spans(query: ChangesQuery, *, today: date) -> tuple[Span, Span]:
    """Return what is compared: before, after. Raises Problem."""
    days = {"from": query.from_, "to": query.to, "against_from": query.against_from, "against_to": query.against_to}
    if query.billed_month:
        for name, value in days.items():
            if value:
                raise queries.invalid(name, "Ask for days or for billed months, not for both.")
        month = _month(query.billed_month)
        against = _month(query.against_billed_month) if query.against_billed_month else periods.previous_month(month)
        return Span.of_month(against), Span.of_month(month)
    if query.against_billed_month:
        raise queries.invalid("against_billed_month", "Name the billed month that is compared with it, too.")
    if not any(days.values()):
        return changes.so_far(today)
    after = _days(query.from_, query.to, ("from", "to"))
    if not query.against_from and not query.against_to:
        return changes.before(after), after
    return _days(query.against_from, query.against_to, ("against_from", "against_to")), after


def _days(first: str, last: str, names: tuple[str, str]) -> Span:
    for name, text in zip(names, (first, last), strict=True):
        if not text:
            raise queries.invalid(name, "Name the first and the last day.")
    starts_on, ends_on = queries.day(names[0], first), queries.day(names[1], last)
    if ends_on < starts_on:
        raise queries.invalid(names[1], "The last day is before the first.")
    return Span(starts_on, ends_on)


def _month(text: str) -> date:
    return date.fromisoformat(f"{text}-01")


def _report(organization: Organization, before: Span, after: Span, explained: Explanation) -> ChangeReport:
    return ChangeReport(
        organization=organization.reference,
        currency=organization.currency,
        before=_period(before, explained.before),
        after=_period(after, explained.after),
        change_micros=explained.micros,
        steps=[ChangeStep(cause, micros) for cause, micros in explained.parts.items()],
        products=[_product(each) for each in explained.products],
    )


def _period(span: Span, used: Period) -> ComparedPeriod:
    return ComparedPeriod(
        from_=span.starts_on,
        to=span.ends_on,
        billed_month=f"{span.billed_month:%Y-%m}" if span.billed_month else None,
        calls=used.calls,
        duration_ms=used.duration_ms,
        llm_tokens=used.llm_tokens,
        micros=used.micros,
    )


def _product(change: ProductChange) -> ChangedProduct:
    return ChangedProduct(
        component=change.component,
        product=change.product,
        unit=change.unit,
        before=_use(change.before),
        after=_use(change.after),
        change_micros=change.micros,
        steps=[ChangeStep(cause, micros) for cause, micros in change.parts.items() if micros],
    )


def _use(side: Side) -> ProductUse:
    return ProductUse(side.calls, side.duration_ms, side.llm_tokens, side.micros)
