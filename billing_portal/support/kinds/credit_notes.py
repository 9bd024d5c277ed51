"""Lowering a finalized invoice by a credit note."""

from datetime import datetime
from typing import Any

from django import forms
from django.db.models import Q, QuerySet

from billing_portal.billing import claims, credit_note_tasks, credit_notes, crediting, minor_units
from billing_portal.billing.models import CreditNote, Invoice, Purchase
from billing_portal.ledger import bucket_claims
from billing_portal.ledger.models import Account
from billing_portal.support.amounts import amount
from billing_portal.support.kinds.base import AmountForm, Change, Kind, Refused
from billing_portal.support.models import StaffAction


def creditable(account: Account) -> QuerySet[Invoice]:
    """Return the finalized invoices of usage and of credit and buckets that were given, the newest first."""
    given = Q(purchase__grant__isnull=False) | Q(purchase__bucket__isnull=False)
    bills = Q(month__isnull=False) | Q(interim__isnull=False) | given
    states = [Invoice.State.OPEN, Invoice.State.PAID, Invoice.State.UNCOLLECTIBLE]
    invoices = Invoice.objects.filter(bills, organization_id=account.organization_id, state__in=states)
    return invoices.order_by("-drafted_at", "-id")


class CreditForm(AmountForm):
    to = forms.ChoiceField(
        label="What was paid goes",
        choices=CreditNote.To.choices,
        help_text="Of an invoice that is still open, the amount comes off what is to be paid.",
    )

    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        self.fields["invoice"] = forms.ModelChoiceField(label="Invoice", queryset=creditable(account))
        self.fields["amount"].help_text = "Before tax; the tax on it goes back as well."
        self.order_fields(["invoice", "amount", "to"])

    def params(self) -> dict[str, Any]:
        return {**super().params(), "invoice": self.cleaned_data["invoice"].pk, "to": self.cleaned_data["to"]}


class Credit(Kind):
    name = "credit_note"
    label = "Lower or refund an invoice"
    explanation = "Makes a credit note at Stripe for a finalized invoice. The invoice itself stays as it is."
    form = CreditForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return int(params["micros"])

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        invoice, micros = self._invoice(account, params), params["micros"]
        left, gross = crediting.left_micros(invoice), crediting.gross_minor(invoice, micros)
        try:
            credit_notes.assert_creditable(invoice)
        except credit_notes.NotCreditable as error:
            raise Refused(str(error)) from error
        if not 0 < micros <= left:
            raise Refused(f"{amount(left, invoice.currency)} of {invoice} can still be credited, before tax.")
        changes = [
            Change(f"Left of invoice {invoice}, before tax", left, left - micros),
            Change("With tax", note=amount(minor_units.to_micros(gross, invoice.currency), invoice.currency)),
        ]
        if invoice.open_minor:
            owed = minor_units.to_micros(invoice.open_minor, invoice.currency)
            lowered = minor_units.to_micros(max(0, invoice.open_minor - gross), invoice.currency)
            return [*changes, Change("Still to be paid", owed, lowered)]
        changes.append(Change("What was paid goes", note=CreditNote.To(params["to"]).label))
        return [*changes, *_taken_back(invoice, micros, now=now)]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        try:
            note = credit_notes.ask(
                invoice=self._invoice(action.organization.account, action.params),
                micros=action.params["micros"],
                reason=action.reason,
                reference=action.reference,
                cause=CreditNote.Cause.STAFF,
                to=CreditNote.To(action.params["to"]),
                by=action.asked_by,
                now=now,
            )
        except (credit_notes.NotCreditable, credit_notes.AmountRefused) as error:
            raise Refused(str(error)) from error
        credit_note_tasks.ask_to_issue(note)

    def _invoice(self, account: Account, params: dict[str, Any]) -> Invoice:
        invoices_of = Invoice.objects.select_related("organization")
        return invoices_of.get(pk=params["invoice"], organization_id=account.organization_id)


def _taken_back(invoice: Invoice, micros: int, *, now: datetime) -> list[Change]:
    """Return what the refund takes of what the invoice's purchase gave; nothing for an invoice of usage."""
    purchase = Purchase.objects.filter(invoice=invoice).select_related("grant", "bucket").first()
    if purchase is not None and purchase.grant is not None:
        there = min(purchase.grant.remaining_micros, micros)
        return [
            Change("Credit that is taken back", note=amount(there, invoice.currency)),
            Change("Spent already, and so owed", note=amount(micros - there, invoice.currency)),
        ]
    if purchase is not None and purchase.bucket is not None:
        found = bucket_claims.preview(
            bucket=purchase.bucket,
            paid_micros=purchase.amount_micros,
            claimed_micros=claims.gone_micros(invoice) + micros,
            now=now,
        )
        bought = f"{max(0, found.units):,} of {found.claim.bought_units:,}"
        return [
            Change("Units that are taken out of the bucket", note=bought),
            Change("Used already, and so owed", note=amount(found.debt_micros, invoice.currency)),
        ]
    return []
