"""Invoices for programs: what addresses below an invoice have in common, and what its amount due is for."""

from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
from django.http import HttpResponse
from msgspec import Meta
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import clock
from accounts.authentication import HasScope
from accounts.models import ApiKey, Organization
from accounts.problems import Problem
from billing_portal.billing import amounts_due, amounts_due_tasks, minor_units
from billing_portal.billing.models import Invoice
from usage.api import description, queries
from usage.api.answers import Currency, Micros
from usage.api.keyed_views import KeyedView, answer, not_found, organization_of
from usage.api.queries import Text128
from usage.shares import Grouping

_MOST_KEYS_NAMED = 20


class AmountDueQuery(queries.OrganizationQuery):
    """What the amount due is added up by."""

    by: Annotated[
        Literal["agent", "model", "day", "metadata"],
        Meta(description="What the calls are grouped by; `metadata` by the values of one key."),
    ] = "agent"
    key: Annotated[
        Text128, Meta(description="With `by=metadata`: which key, one of those that the organization has counted.")
    ] = ""


class AmountDueRow(msgspec.Struct, frozen=True):
    """One value's part. What no call bears is a row of its own `kind`, with no usage beside it."""

    value: Annotated[str, Meta(description="Empty for calls without one.")]
    kind: Annotated[
        Literal["calls", "others", "outcome", "other", "balance"],
        Meta(description="`calls` for a value's calls, `others` for all values beyond the first 499 together."),
    ]
    calls: int
    usage_micros: Micros
    due_micros: Annotated[int, Meta(description="After credit, discounts and tax.")]
    due_minor: Annotated[int, Meta(description="In the currency's minor unit; over all rows, `amount_due_minor`.")]


class AmountDueReport(msgspec.Struct, frozen=True):
    """What an invoice's amount due is for. While `state` is `computing`, ask again in some seconds."""

    invoice: Annotated[str, Meta(description="The invoice's number.")]
    state: Literal["computing", "ready"]
    by: str
    key: str
    currency: Currency
    minor_digits: Annotated[int, Meta(description="How many decimals the minor unit has: 2 for USD, 0 for JPY.")]
    amount_due_minor: int
    rows: list[AmountDueRow]


class InvoiceView(KeyedView):
    """What a key that may read billing asks of an invoice, by its number."""

    def get_permissions(self) -> list[BasePermission]:
        return [HasScope(ApiKey.Scope.BILLING_READ)]

    def invoice(self, organization: Organization, number: str) -> Invoice:
        if "\x00" in number:  # which PostgreSQL cannot hold
            raise not_found()
        found = Invoice.objects.filter(organization=organization, number=number).exclude(number="").first()
        if found is None:
            raise not_found()
        return found


class AmountDueView(InvoiceView):
    """What the amount due of one invoice is for."""

    @description.reads("get_amount_due", query=AmountDueQuery, answer=AmountDueReport, more=(409,))
    def get(self, request: Request, number: str) -> HttpResponse:
        """Say what an invoice's amount due is for, by agent, model, day or a key of metadata, to the minor unit."""
        query = queries.read(request.query_params, AmountDueQuery)
        invoice = self.invoice(organization_of(request, query), number)
        grouping, key = Grouping(query.by), _key(query, invoice)
        if not amounts_due.is_final(invoice):
            text = "It bills no month of usage, or is not final: ask again once it is."
            raise Problem(HTTPStatus.CONFLICT, "not-final", "The invoice has no final amount due", text)
        return answer(_report(invoice, grouping, key, _rows(invoice, grouping, key)))


def _key(query: AmountDueQuery, invoice: Invoice) -> str:
    """Return the key of metadata that is asked for. Raises Problem where there is one too few, or too many."""
    if query.by != "metadata":
        if query.key:
            raise queries.invalid("key", "It goes with `by=metadata`.")
        return ""
    keys = amounts_due.keys_of(invoice)
    if query.key not in keys:
        known = ", ".join(keys[:_MOST_KEYS_NAMED]) or "none yet; choose them on the portal's metadata page"
        raise queries.invalid("key", f"Name a key that is counted: {known}.")
    return query.key


def _rows(invoice: Invoice, grouping: Grouping, key: str) -> list[amounts_due.Row] | None:
    """Return the rows; None while those of a large invoice are computed in the background. Raises Problem."""
    try:
        return amounts_due_tasks.rows(invoice, grouping, key, now=clock.now())
    except amounts_due.Unspread as refused:
        text = f"{refused} It is being looked into."
        raise Problem(HTTPStatus.CONFLICT, "does-not-add-up", "The parts do not add up", text) from refused


def _report(invoice: Invoice, grouping: Grouping, key: str, rows: list[amounts_due.Row] | None) -> AmountDueReport:
    return AmountDueReport(
        invoice=invoice.number,
        state="computing" if rows is None else "ready",
        by=grouping,
        key=key,
        currency=invoice.currency,
        minor_digits=minor_units.exponent(invoice.currency),
        amount_due_minor=invoice.amount_due_minor,
        rows=[
            AmountDueRow(
                value=row.label,
                kind=row.kind,  # type: ignore[arg-type]
                calls=row.calls,
                usage_micros=row.usage_micros,
                due_micros=row.due_micros,
                due_minor=row.due_minor,
            )
            for row in rows or ()
        ],
    )
