"""Whom a final invoice is made out to, and its tax by rate: taken from Stripe's own document, once, and kept.

One rule of rounding (F43): tax is what Stripe's document says, in whole minor units, and nothing here computes it anew.
Stripe rounds the tax of each line half up and adds the lines; what we split a document into (rates, credit notes, the
report's rows) are whole minor units by largest remainder that come to the document's own sums.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import structlog
from django.db import transaction
from django.db.models import QuerySet

from accounts import letters
from billing_portal.billing import gateway
from billing_portal.billing.models import BillingDetails, Invoice, InvoiceParty, InvoiceTax
from billing_portal.billing.tax import automatic, details

log = structlog.get_logger(__name__)

# Reasons of our own, beside Stripe's.
NOT_CALCULATED = "not_calculated"


@dataclass(frozen=True, slots=True)
class Rate:
    """A tax rate of Stripe's: immutable there, so it is asked for once."""

    name: str
    country: str
    region: str
    jurisdiction: str
    percent: Decimal


@dataclass(slots=True)
class Group:
    """What a document bills under one set of rates."""

    taxes: Sequence[Mapping[str, Any]]
    net_minor: int
    tax_minor: int


def store(invoice: Invoice, *, now: datetime) -> InvoiceParty | None:
    """Return whom a final invoice is made out to, stored with its tax if that is not done yet; None for a draft.

    Raises what the gateway raises.
    """
    if invoice.finalized_at is None:
        return None
    known = InvoiceParty.objects.filter(invoice=invoice).first()
    if known is not None:
        return known
    data = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    rows = _taxes(invoice, data)
    with transaction.atomic():
        locked = Invoice.objects.select_for_update(of=("self",)).select_related("organization").get(pk=invoice.pk)
        known = InvoiceParty.objects.filter(invoice=locked).first()
        if known is not None:
            return known
        party = _party(locked, data, now=now)
        party.save(force_insert=True)
        InvoiceTax.objects.bulk_create(rows)
        _tell(locked, now=now)
    log.info("invoice taxes stored", invoice_id=invoice.pk, organization_id=invoice.organization_id, rates=len(rows))
    return party


def store_missing(*, now: datetime, limit: int = 200) -> int:
    """Store what no walk has stored; return how many were. One that fails keeps no other from it (F24)."""
    return sum(_store_safely(invoice, now=now) for invoice in missing()[:limit])


def missing() -> QuerySet[Invoice]:
    """Return the final invoices whose tax is not stored yet."""
    return Invoice.objects.filter(finalized_at__isnull=False, party=None).order_by("id")


def grouped(lines: Sequence[Mapping[str, Any]]) -> list[Group]:
    """Return a document's lines by the rates on them, in the order in which they come. Pure."""
    groups: dict[tuple[Any, ...], Group] = {}
    for line in lines:
        taxes = line.get("taxes") or []
        key = tuple(sorted((_rate_id(tax), tax["taxability_reason"], tax["tax_behavior"]) for tax in taxes))
        group = groups.setdefault(key, Group(taxes, 0, 0))
        off = [*(line.get("discount_amounts") or []), *(line.get("pretax_credit_amounts") or [])]
        contained = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
        group.net_minor += line["amount"] - sum(each["amount"] for each in off) - contained
        group.tax_minor += sum(tax["amount"] for tax in taxes)
    return list(groups.values())


def agreed(groups: Sequence[Group], *, net_minor: int, tax_minor: int) -> int:
    """Bring groups to the document's own sums, by changing the largest; return how many minor units that took (F43)."""
    largest = max(groups, key=lambda group: abs(group.net_minor))
    off = net_minor - sum(group.net_minor for group in groups), tax_minor - sum(group.tax_minor for group in groups)
    largest.net_minor += off[0]
    largest.tax_minor += off[1]
    return abs(off[0]) + abs(off[1])


def _store_safely(invoice: Invoice, *, now: datetime) -> bool:
    try:
        return store(invoice, now=now) is not None
    except Exception:
        log.exception("invoice taxes not stored", invoice_id=invoice.pk, organization_id=invoice.organization_id)
        return False


def _taxes(invoice: Invoice, data: gateway.Object) -> list[InvoiceTax]:
    net = data["total"] - sum(tax["amount"] for tax in data.get("total_taxes") or [])
    groups = _groups(data, net)
    if off := agreed(groups, net_minor=net, tax_minor=data["total"] - net):
        log.warning("tax of lines differs", invoice_id=invoice.pk, organization_id=invoice.organization_id, minor=off)
    return [_row(invoice, data, position, group) for position, group in enumerate(groups, start=1)]


def _groups(data: gateway.Object, net_minor: int) -> list[Group]:
    """Return the invoice by rates: its sums where there is one rate at most, else its lines."""
    taxes = data.get("total_taxes") or []
    if len(taxes) <= 1:
        return [Group(taxes, net_minor, data["total"] - net_minor)]
    return grouped(list(gateway.list_invoice_lines(data["id"]))) or [Group([], net_minor, data["total"] - net_minor)]


def _row(invoice: Invoice, data: gateway.Object, position: int, group: Group) -> InvoiceTax:
    rates = [rate(_rate_id(tax)) for tax in group.taxes]
    address = data.get("customer_address") or {}
    places = Counter(each.country for each in rates if each.country).most_common(1)
    regions = [each.region for each in rates if each.region]
    return InvoiceTax(
        organization_id=invoice.organization_id,
        invoice=invoice,
        position=position,
        country=places[0][0] if places else address.get("country") or "",
        region=regions[0] if regions else address.get("state") or "",
        name=" + ".join(dict.fromkeys(each.name for each in rates if each.percent or len(rates) == 1))[:200],
        percent=sum((each.percent for each in rates), Decimal(0)),
        reason=_reason(group.taxes, data),
        is_inclusive=any(tax["tax_behavior"] == "inclusive" for tax in group.taxes),
        net_minor=group.net_minor,
        tax_minor=group.tax_minor,
        parts=[
            {"name": each.name, "jurisdiction": each.jurisdiction, "percent": f"{each.percent.normalize():f}"}
            for each in rates
        ],
    )


def _reason(taxes: Sequence[Mapping[str, Any]], data: gateway.Object) -> str:
    reasons = [tax["taxability_reason"] or "" for tax in taxes]
    return next((each for each in reasons if each != "not_collecting"), reasons[0]) if reasons else _untaxed(data)


def _untaxed(data: gateway.Object) -> str:
    """Return why an invoice carries no tax at all: as we noted, as Stripe says, or because nobody asked for any."""
    noted = (data.get("metadata") or {}).get(automatic.UNTAXED)
    return str(noted or (data.get("automatic_tax") or {}).get("disabled_reason") or NOT_CALCULATED)[:40]


def _rate_id(tax: Mapping[str, Any]) -> str:
    found = (tax.get("tax_rate_details") or {}).get("tax_rate") or ""
    return str(found["id"] if isinstance(found, Mapping) else found)


@lru_cache(maxsize=1024)
def rate(stripe_tax_rate_id: str) -> Rate:
    """Return a tax rate as Stripe has it. Raises what the gateway raises."""
    found = gateway.retrieve("tax_rates", stripe_tax_rate_id)
    percent = found.get("effective_percentage")
    return Rate(
        name=found.get("display_name") or "Tax",
        country=(found.get("country") or "").upper(),
        region=found.get("state") or "",
        jurisdiction=found.get("jurisdiction") or "",
        percent=Decimal(str(found["percentage"] if percent is None else percent)),
    )


def _party(invoice: Invoice, data: gateway.Object, *, now: datetime) -> InvoiceParty:
    fields = {each["name"]: each["value"] for each in data.get("custom_fields") or []}
    is_taxed = bool((data.get("automatic_tax") or {}).get("enabled")) or bool(data.get("total_taxes"))
    ids = [[each["type"], each["value"]] for each in data.get("customer_tax_ids") or [] if each.get("value")]
    return InvoiceParty(
        organization=invoice.organization,
        invoice=invoice,
        details=_version(invoice, data),
        name=(data.get("customer_name") or "")[:500],
        address={part: value for part, value in (data.get("customer_address") or {}).items() if value},
        tax_ids=ids,
        purchase_order=(fields.get(details.PURCHASE_ORDER) or "")[:140],
        is_taxed=is_taxed,
        untaxed_reason="" if is_taxed else _untaxed(data),
        stored_at=now,
    )


def _version(invoice: Invoice, data: gateway.Object) -> BillingDetails | None:
    """Return the version of the details that the invoice says; None where somebody at Stripe made it out otherwise."""
    said = {"name": data.get("customer_name"), "address": data.get("customer_address")}
    versions = BillingDetails.objects.filter(organization=invoice.organization).order_by("-version")
    return next((each for each in versions if details.is_at(each, said)), None)


def _tell(invoice: Invoice, *, now: datetime) -> None:
    """Write to the further recipients that there is an invoice; Stripe itself writes to the billing address alone."""
    if invoice.total_minor <= 0 or invoice.state == Invoice.State.VOID:
        return
    letters.write(
        template="emails/invoice_ready",
        reference=f"invoice_ready:{invoice.stripe_invoice_id}",
        to=invoice.organization.invoice_recipients,
        organization=invoice.organization,
        invoice=invoice,
        now=now,
    )
