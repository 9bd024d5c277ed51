"""Invoices, and the proof of each: every line beside the calls behind it."""

import uuid
from contextlib import suppress
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts import clock, replica
from accounts.access import Permission
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.billing import amounts_due, cards, charging, gateway, interims, overdue_walk, reconciliation
from billing_portal.billing.disputes import subjects
from billing_portal.billing.models import (
    Chargeback,
    CreditNote,
    InterimInvoice,
    Invoice,
    InvoicePayment,
    PaymentMethod,
    Refund,
)
from billing_portal.billing.tax import automatic
from billing_portal.portal import arrears, discount_words, invoice_party, payment_trouble
from usage import components, rollups
from usage.models import Billable, Component, OutcomeCharge, OutcomeType
from usage.outcomes import billed

_PAGE_SIZE = 50
_UNKNOWN = (
    "Stripe does not answer at the moment. If the card was charged, you see it here in a minute; trying again is safe."
)


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def invoices(request: OrganizationRequest) -> HttpResponse:
    """List the invoices, the newest first."""
    rows = Invoice.objects.filter(organization=request.organization).select_related("purchase__offer", "interim")
    rows = rows.order_by("-drafted_at", "-id")
    return render(request, "portal/invoices.html", {"invoices": list(rows[:120])})


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def invoice(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show one invoice with every line reconciled."""
    found = _invoice(request, invoice)
    interim = interims.of_invoice(found)
    checked = reconciliation.reconcile_invoice(found, deep=False)
    notes = [note for note in checked.credit_notes if note.state in CreditNote.STANDING]
    # Whatever went back went by a payment that is known.
    went_back = InvoicePayment.objects.filter(invoice=found).exists()
    context = {
        "invoice": found,
        "credit_notes": notes,
        "refunds": list(Refund.objects.filter(invoice=found).order_by("-made_at", "-id")) if went_back else [],
        "chargebacks": list(Chargeback.objects.filter(invoice=found).order_by("-opened_at", "-id"))
        if went_back
        else [],
        "credited_minor": -sum(note.total_minor for note in notes),
        "refunded_minor": sum(note.refunded_minor for note in notes),
        "balance_minor": sum(note.balance_minor for note in notes),
        "interim": interim,
        "discounts": discount_words.of_invoice(found, interim.month if interim else found.month),
        "party": invoice_party.of(found),
        "waits_for_address": found.waiting_for == automatic.NO_PLACE,
        "has_amount_due": amounts_due.is_final(found),
        "month_invoice": _month_invoice(interim) if interim else None,
        "interims": list(interims.standing(request.organization.pk, found.month)) if found.month else [],
        "unpaid": arrears.Unpaid(found) if found.open_minor else None,
        "stop": payment_trouble.stop_of(found, payment_trouble.overdue_of(found), now=clock.now()),
        "reconciliation": checked,
        "counted": "Calls, outcomes" if any(line.prices for line in checked.lines) else "Calls",
        "late_micros": _late_micros(found),
    }
    return render(request, "portal/invoice.html", context)


@require_GET
@organization_view(Permission.VIEW_BILLING)
def payment(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show how far an invoice's payment is: why it failed, what stops when, and every way to pay."""
    found = payment_trouble.of(_invoice(request, invoice), now=clock.now())
    return render(request, "portal/invoice_payment.html", {"payment": found, "invoice": found.invoice})


@require_POST
@organization_view(Permission.MANAGE_BILLING)
def pay(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Charge an unpaid invoice to the chosen card, or to the default one, once for each form."""
    found, now = _invoice(request, invoice), clock.now()
    method = _chosen_card(request)
    page = "invoice_payment"
    try:
        paid = charging.pay_now(found, key=str(_key(request)), method=method, now=now)
    except charging.NotPayable as error:
        messages.info(request, str(error))
    except charging.PaymentRefused:
        messages.error(request, "The card was not charged. What the bank said stands below.")
        _read_attempts(found)
    except gateway.Failed:
        messages.warning(request, _UNKNOWN)
    else:
        page = "invoice"
        messages.success(request, f"Invoice {paid.number} is paid.{_charge_from_now_on(request, method)}")
    return redirect(page, request.organization.public_id, found.public_id)


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def pay_by_form(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Show Stripe's form, which charges an unpaid invoice to a card that is entered there, or by Link."""
    found = _invoice(request, invoice)
    here = [request.organization.public_id, found.public_id]
    try:
        secret = charging.form_secret(found)
    except charging.NotPayable as error:
        messages.info(request, str(error))
        return redirect("invoice_payment", *here)
    except gateway.Failed:
        messages.error(request, "Stripe does not answer at the moment. Nothing was charged; try again in a minute.")
        return redirect("invoice_payment", *here)
    context = {
        "invoice": found,
        "stripe_js_url": settings.STRIPE_JS_URL,
        "element": {
            "publishableKey": settings.STRIPE_PUBLISHABLE_KEY,
            "clientSecret": secret,
            "returnUrl": request.build_absolute_uri(reverse("invoice_paid_by_form", args=here)),
        },
    }
    return render(request, "portal/invoice_pay_by_form.html", context)


@require_GET
@organization_view(Permission.MANAGE_BILLING)
def paid_by_form(request: OrganizationRequest, invoice: UUID) -> HttpResponse:
    """Ask Stripe what became of a payment by its form, and say so; nothing is believed from the address."""
    found = _invoice(request, invoice)
    page = "invoice_payment"
    try:
        found = charging.look(found, now=clock.now())
    except gateway.Failed:
        messages.warning(request, _UNKNOWN)
    else:
        if found.state == Invoice.State.PAID:
            page = "invoice"
            messages.success(request, f"Invoice {found.number} is paid.")
        else:
            messages.warning(request, "Stripe has no payment of this invoice yet. What the bank said stands below.")
            _read_attempts(found)
    return redirect(page, request.organization.public_id, found.public_id)


@require_GET
@organization_view(Permission.VIEW_BILLING)
@replica.reads
def invoice_line(request: OrganizationRequest, invoice: UUID, component: str) -> HttpResponse:
    """Show the calls or the outcomes behind one usage line, in the order in which they were settled."""
    found = _invoice(request, invoice)
    if component not in Billable.values:
        raise Http404("No such page.")
    is_outcome = component in OutcomeType.values
    after = _whole_number(request.GET.get("after", "0"))
    interim = interims.of_invoice(found)
    rows = (_outcomes if is_outcome else _charges)(found, interim, component, after=after)
    checked = reconciliation.reconcile_invoice(found, deep=False)
    here = reverse("invoice_line", args=[request.organization.public_id, found.public_id, component])
    context = {
        "invoice": found,
        "interim": interim,
        "component": Billable(component),
        "is_outcome": is_outcome,
        "line": next((each for each in checked.lines if each.opens_calls and each.component == component), None),
        "dispute_reference": subjects.line_reference(found, component),
        "charges": rows[:_PAGE_SIZE],
        "first": here if after else "",
        "next": f"{here}?after={rows[_PAGE_SIZE - 1].sequence}" if len(rows) > _PAGE_SIZE else "",
    }
    template = "portal/invoice_outcomes.html" if is_outcome else "portal/invoice_line.html"
    return render(request, f"{template}#charges" if request.htmx else template, context)


def _late_micros(invoice: Invoice) -> int:
    if invoice.month is None:
        return 0
    of_calls = rollups.late_micros(invoice.organization_id, invoice.month)
    return of_calls + billed.late_micros(invoice.organization_id, invoice.month)


def _outcomes(invoice: Invoice, interim: InterimInvoice | None, outcome: str, *, after: int) -> list[OutcomeCharge]:
    """Return a page of the outcomes behind a line and one more; an interim invoice has those of its settlements."""
    month = interim.month if interim else invoice.month
    if month is None:
        return []
    after, until = (max(after, interim.first_sequence - 1), interim.last_sequence) if interim else (after, None)
    return billed.of_line(invoice.organization_id, month, outcome, after=after, until=until, limit=_PAGE_SIZE + 1)


def _charges(
    invoice: Invoice, interim: InterimInvoice | None, component: str, *, after: int
) -> list[components.ComponentCharge]:
    """Return a page of the calls behind a line and one more; an interim invoice has those of its settlements."""
    month = interim.month if interim else invoice.month
    if month is None:
        return []
    after = max(after, interim.first_sequence - 1) if interim else after
    of_month = components.charges_of(
        organization_id=invoice.organization_id,
        month=month,
        component=Component(component),
        after=after,
        limit=_PAGE_SIZE + 1,
    )
    return [each for each in of_month if interim is None or each.sequence <= interim.last_sequence]


def _month_invoice(interim: InterimInvoice) -> Invoice | None:
    """Return the invoice of the month that an interim invoice comes off, once there is one."""
    of_month = Invoice.objects.filter(organization=interim.organization_id, month=interim.month)
    return of_month.exclude(state=Invoice.State.VOID).first()


def _chosen_card(request: OrganizationRequest) -> PaymentMethod | None:
    """Return the card that the form names; None, which is the default card, where it names none."""
    chosen = request.POST.get("card", "")
    if not (chosen.isascii() and chosen.isdigit() and len(chosen) < 19):
        return None
    return get_object_or_404(PaymentMethod, pk=chosen, organization=request.organization, removed_at=None)


def _charge_from_now_on(request: OrganizationRequest, method: PaymentMethod | None) -> str:
    """Make the card that has just paid the default one, if that was wished; return the words for it."""
    if method is None or method.is_default or not request.POST.get("from_now_on"):
        return ""
    try:
        cards.make_default(method, now=clock.now())
    except gateway.Failed:
        return f" {method} could not be made the default just now."
    return f" {method} is charged from now on."


def _read_attempts(invoice: Invoice) -> None:
    """Look up at once what the bank said; if Stripe does not answer, the sweep does it."""
    with suppress(gateway.Failed):
        overdue_walk.look_up(invoice)


def _key(request: OrganizationRequest) -> UUID:
    """Return the key that was minted with the form; a new one for a request without."""
    try:
        return UUID(request.POST.get("key", ""))
    except ValueError:
        return uuid.uuid4()


def _invoice(request: OrganizationRequest, invoice: UUID) -> Invoice:
    rows = Invoice.objects.select_related("purchase__offer")
    return get_object_or_404(rows, public_id=invoice, organization=request.organization)


def _whole_number(text: str) -> int:
    """Return the number that a paging link carries; anything else begins at the start."""
    return int(text) if text.isdecimal() and len(text) < 19 else 0
