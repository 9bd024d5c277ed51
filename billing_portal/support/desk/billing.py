"""Our side of Stripe on the staff desk: the inbox, reports, invoices, what was sent and what came back."""

from decimal import Decimal
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import clock
from accounts.models import User
from billing_portal.billing import claims, credit_notes, inbox, mismatches
from billing_portal.billing.models import (
    Chargeback,
    CreditLine,
    CreditNote,
    Customer,
    Discount,
    ExchangeRate,
    FraudWarning,
    InboxEvent,
    Intent,
    Invoice,
    InvoiceLine,
    Mismatch,
    Overdue,
    PaymentAttempt,
    PaymentMethod,
    Purchase,
    PurchaseStep,
    Refund,
    Report,
    TopUp,
)
from billing_portal.support.desk.read_only import ReadOnlyAdmin, ReadOnlyInline, shown
from billing_portal.support.kinds.discounts import told

_BY_ORGANIZATION = ["organization__name", "organization__reference"]


@admin.register(InboxEvent)
class InboxEventAdmin(ReadOnlyAdmin):
    list_display = ["type", "stripe_event_id", "state", "object_id", "attempts", "reason", "received_at"]
    list_filter = ["state"]
    search_fields = ["stripe_event_id__exact", "object_id__exact", "stripe_customer_id__exact", "type__exact"]
    search_help_text = "A Stripe id of the event, its object or its customer; or a whole type, as in invoice.paid"
    actions = ["replay", "park"]

    @admin.action(description="Replay the selected events")
    def replay(self, request: HttpRequest, events: QuerySet[InboxEvent]) -> None:
        for event in events:
            inbox.replay(event)
        messages.success(request, f"{len(events)} events will be handled again; that is safe at any time.")

    @admin.action(description="Park the selected events that still wait")
    def park(self, request: HttpRequest, events: QuerySet[InboxEvent]) -> None:
        reason = f"Set aside by {request.user}."
        parked = sum(inbox.park(event, reason=reason, now=clock.now()) for event in events)
        messages.success(request, f"{parked} events are set aside until somebody replays them.")


@admin.register(Intent)
class IntentAdmin(ReadOnlyAdmin):
    list_display = ["verb", "reference", "organization", "state", "stripe_id", "attempts", "created_at", "finished_at"]
    list_filter = ["state", "verb"]
    list_select_related = ["organization"]
    search_fields = ["reference__exact", "stripe_id__exact", *_BY_ORGANIZATION]


@admin.register(Customer)
class CustomerAdmin(ReadOnlyAdmin):
    list_display = ["organization", "stripe_customer_id", "stripe_subscription_id", "subscribed_at"]
    list_select_related = ["organization"]
    search_fields = ["stripe_customer_id__exact", "stripe_subscription_id__exact", *_BY_ORGANIZATION]


@admin.register(PaymentMethod)
class PaymentMethodAdmin(ReadOnlyAdmin):
    list_display = ["organization", "kind", "brand", "last4", "funding", "is_default", "created_at", "removed_at"]
    list_select_related = ["organization"]
    search_fields = ["stripe_payment_method_id__exact", "fingerprint__exact", *_BY_ORGANIZATION]


@admin.register(PaymentAttempt)
class PaymentAttemptAdmin(ReadOnlyAdmin):
    list_display = [
        "attempted_at",
        "organization",
        "invoice",
        shown("amount_minor"),
        "state",
        "card",
        "funding",
        "decline_code",
        "risk_level",
        "risk_score",
        "seller_message",
    ]
    list_filter = ["state", "outcome", "risk_level", "kind"]
    list_select_related = ["organization", "invoice"]
    search_fields = [
        "stripe_charge_id__exact",
        "stripe_payment_intent_id__exact",
        "fingerprint__exact",
        "invoice__number__exact",
        *_BY_ORGANIZATION,
    ]


@admin.register(Overdue)
class OverdueAdmin(ReadOnlyAdmin):
    list_display = ["invoice", "organization", "failed_at", "stops_at", "attempts", "asks_owner", "told", "ended_at"]
    list_filter = ["asks_owner", "told"]
    list_select_related = ["organization", "invoice"]
    search_fields = ["invoice__number__exact", "invoice__stripe_invoice_id__exact", *_BY_ORGANIZATION]


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    list_display = [
        "identifier",
        "organization",
        "component",
        shown("micros"),
        "minute_at",
        "state",
        "attempts",
        "accepted_at",
    ]
    list_filter = ["state", "component"]
    list_select_related = ["organization"]
    search_fields = ["identifier__exact", *_BY_ORGANIZATION]


class InvoiceLineInline(ReadOnlyInline):
    model = InvoiceLine
    fields = ["position", "kind", "component", "description", "quantity", "amount_minor"]


class CreditLineInline(ReadOnlyInline):
    model = CreditLine
    fields = ["grant_kind", "component", "micros", "amount_minor", "stripe_invoice_item_id"]


@admin.register(Invoice)
class InvoiceAdmin(ReadOnlyAdmin):
    list_display = [
        "__str__",
        "organization",
        "month",
        "state",
        shown("total_minor"),
        shown("amount_paid_minor"),
        "waiting_for",
        "drafted_at",
        "paid_at",
    ]
    list_filter = ["state", "month"]
    list_select_related = ["organization"]
    search_fields = ["number__exact", "stripe_invoice_id__exact", *_BY_ORGANIZATION]
    inlines = [InvoiceLineInline, CreditLineInline]


@admin.register(CreditNote)
class CreditNoteAdmin(ReadOnlyAdmin):
    list_display = [
        "__str__",
        "organization",
        "invoice",
        "cause",
        shown("total_minor"),
        "state",
        "failure",
        "reason",
        "asked_at",
    ]
    list_filter = ["state", "cause"]
    list_select_related = ["organization", "invoice"]
    search_fields = [
        "number__exact",
        "stripe_credit_note_id__exact",
        "reference__exact",
        "invoice__number__exact",
        *_BY_ORGANIZATION,
    ]
    actions = ["retry"]

    @admin.action(description="Make the selected refused credit notes after all")
    def retry(self, request: HttpRequest, notes: QuerySet[CreditNote]) -> None:
        for note in notes:
            try:
                credit_notes.retry(note, now=clock.now())
            except credit_notes.AmountRefused as error:
                messages.error(request, f"{note}: {error}")
        messages.success(request, "What was refused is tried again within a minute.")


@admin.register(Refund)
class RefundAdmin(ReadOnlyAdmin):
    list_display = ["stripe_refund_id", "organization", "invoice", shown("amount_minor"), "state", "failure", "made_at"]
    list_filter = ["state"]
    list_select_related = ["organization", "invoice"]
    search_fields = ["stripe_refund_id__exact", "invoice__number__exact", *_BY_ORGANIZATION]


@admin.register(Chargeback)
class ChargebackAdmin(ReadOnlyAdmin):
    """Evidence is handed in at Stripe; what becomes of it arrives here."""

    list_display = [
        "stripe_dispute_id",
        "organization",
        "invoice",
        shown("amount_minor"),
        "reason",
        "state",
        "evidence_due_at",
        "opened_at",
    ]
    list_filter = ["state", "reason"]
    list_select_related = ["organization", "invoice"]
    search_fields = ["stripe_dispute_id__exact", "stripe_charge_id__exact", "invoice__number__exact", *_BY_ORGANIZATION]


@admin.register(FraudWarning)
class FraudWarningAdmin(ReadOnlyAdmin):
    list_display = [
        "stripe_warning_id",
        "organization",
        "invoice",
        "fraud_type",
        "holds_credit",
        "state",
        "warned_at",
        "decided_by",
    ]
    list_filter = ["state", "fraud_type"]
    list_select_related = ["organization", "invoice", "decided_by"]
    search_fields = ["stripe_warning_id__exact", "stripe_charge_id__exact", *_BY_ORGANIZATION]
    actions = ["let_be"]

    @admin.action(description="Let the selected payments be")
    def let_be(self, request: HttpRequest, warnings: QuerySet[FraudWarning]) -> None:
        for warning in warnings.select_related("organization", "invoice"):
            claims.dismiss(warning, by=cast(User, request.user), now=clock.now())
        messages.success(request, "Noted. Credit that was held for them is there again.")


@admin.register(Mismatch)
class MismatchAdmin(ReadOnlyAdmin):
    """What the reconciliation found: filter by open, see the cause, put it right or explain it."""

    list_display = [
        "organization",
        "invoice",
        "level",
        "cause",
        shown("amount_micros"),
        "text",
        "owner",
        "state",
        "found_at",
        "seen_at",
    ]
    list_filter = ["state", "owner", "cause"]
    list_select_related = ["organization", "invoice"]
    search_fields = ["invoice__number__exact", "invoice__stripe_invoice_id__exact", "subject__exact", *_BY_ORGANIZATION]
    actions = ["check_again", "explain"]

    @admin.action(description="Compare the selected invoices again")
    def check_again(self, request: HttpRequest, rows: QuerySet[Mismatch]) -> None:
        for invoice in Invoice.objects.filter(mismatches__in=rows).select_related("organization").distinct():
            mismatches.check(invoice, now=clock.now())
        left = rows.filter(state=Mismatch.State.OPEN).count()
        messages.success(request, f"{left} of them are still there.")

    @admin.action(description="Note that the selected differences are explained")
    def explain(self, request: HttpRequest, rows: QuerySet[Mismatch]) -> None:
        for row in rows:
            mismatches.explain(row, by=cast(User, request.user), now=clock.now())
        messages.success(request, "They are asked about again only if their amount changes.")


class PurchaseStepInline(ReadOnlyInline):
    model = PurchaseStep
    fields = ["state", "note", "at"]


@admin.register(Purchase)
class PurchaseAdmin(ReadOnlyAdmin):
    list_display = [
        "public_id",
        "organization",
        "origin",
        "kind",
        "way",
        shown("amount_micros"),
        "state",
        "failure",
        "asked_at",
    ]
    list_filter = ["state", "origin", "kind", "way"]
    list_select_related = ["organization"]
    search_fields = [
        "public_id__exact",
        "stripe_session_id__exact",
        "invoice__stripe_invoice_id__exact",
        *_BY_ORGANIZATION,
    ]
    inlines = [PurchaseStepInline]


@admin.register(TopUp)
class TopUpAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        shown("threshold_micros"),
        shown("amount_micros"),
        shown("ceiling_micros"),
        "accepted_by",
        "accepted_at",
        "ended_at",
        "ended_reason",
    ]
    list_select_related = ["organization", "accepted_by"]
    search_fields = _BY_ORGANIZATION


class ExchangeRateForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rate as people write it: 1 EUR is 163.25 JPY."""

    rate = forms.DecimalField(
        min_value=Decimal("0.000001"), max_digits=15, decimal_places=6, help_text="Units of it for one of the first."
    )

    class Meta:
        model = ExchangeRate
        fields = ["base", "quote", "rate", "as_of", "source"]

    def clean_base(self) -> str:
        return str(self.cleaned_data["base"]).upper()

    def clean_quote(self) -> str:
        return str(self.cleaned_data["quote"]).upper()

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if "rate" in self.cleaned_data:
            self.instance.quote_micros = int(self.cleaned_data["rate"] * 1_000_000)
        return cleaned


@admin.register(ExchangeRate)
class ExchangeRateAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rates for the estimates on purchase pages, none older than 45 days. A rate is replaced by a newer one."""

    form = ExchangeRateForm
    list_display = ["base", "quote", "rate", "as_of", "source"]
    list_filter = ["base", "quote"]
    search_fields = ["base", "quote", "source"]
    date_hierarchy = "as_of"

    @admin.display(description="rate")
    def rate(self, rate: ExchangeRate) -> str:
        return f"{Decimal(rate.quote_micros) / 1_000_000:f}"

    def has_change_permission(self, request: HttpRequest, obj: ExchangeRate | None = None) -> bool:
        return False


@admin.register(Discount)
class DiscountAdmin(ReadOnlyAdmin):
    """Discounts that staff entered on the organizations' desk pages."""

    list_display = ["organization", "terms", "first_month", "ended_before", "reason", "entered_at"]
    list_select_related = ["organization"]
    search_fields = _BY_ORGANIZATION

    @admin.display(description="terms")
    def terms(self, discount: Discount) -> str:
        return told(discount)
