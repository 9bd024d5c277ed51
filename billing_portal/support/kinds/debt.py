"""Forgiving what is owed, giving up what nobody will pay, and undoing either."""

from datetime import date, datetime
from typing import Any

from django import forms
from django.db.models import Q, QuerySet

from billing_portal.billing import bad_debts, discounts, gateway, intents
from billing_portal.billing.models import Invoice
from billing_portal.ledger import balances, reversals, totals, write_offs
from billing_portal.ledger.models import Account, Period, Settlement, Transaction
from billing_portal.support.kinds.base import AmountForm, Change, Kind, ParamsForm, Refused
from billing_portal.support.models import StaffAction

_STRIPE_AWAY = "Stripe does not answer at the moment. Nothing was changed here; please try again in a minute."
Posted = Transaction.Kind


def open_months(account: Account) -> list[date]:
    """Return the months with usage whose invoice does not stand yet, the newest first."""
    months = Settlement.objects.filter(organization_id=account.organization_id)
    closed = Period.objects.filter(organization_id=account.organization_id, closed_at__isnull=False)
    open_ = months.exclude(month__in=closed.values("month")).order_by("-month")
    return list(open_.values_list("month", flat=True).distinct())


class ForgiveForm(AmountForm):
    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        choices = [(month.isoformat(), f"{month:%B %Y}") for month in open_months(account)]
        self.fields["month"] = forms.ChoiceField(
            label="Month", choices=choices, help_text="Only months whose invoice is not made yet can be lowered."
        )
        self.order_fields(["month", "amount"])

    def params(self) -> dict[str, Any]:
        return {**super().params(), "month": self.cleaned_data["month"]}


class Forgive(Kind):
    name = "forgive"
    label = "Forgive usage"
    explanation = "Takes an amount off what this month's invoice will come to. It appears there as goodwill."
    form = ForgiveForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return int(params["micros"])

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        month, micros = date.fromisoformat(params["month"]), params["micros"]
        owed = balances.balance(account, now=now).accrued_micros
        can_be = write_offs.forgivable_micros(account, month, now=now)
        if micros > can_be:
            raise Refused(str(write_offs.MoreThanOwed(month, can_be, micros)))
        accrued = totals.month(account.organization_id, month).accrued_micros
        first = Change("Discounts", note="Are taken first, of the whole; this comes off what they leave.")
        return [
            *([first] if discounts.in_force(account.organization_id, month) else []),
            Change(f"Usage of {month:%B %Y} on the invoice, before tax", accrued, accrued - micros),
            Change("Owed in all", owed, owed - micros),
        ]

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        try:
            write_offs.forgive(
                organization=action.organization,
                month=date.fromisoformat(action.params["month"]),
                micros=action.params["micros"],
                reason=action.reason,
                reference=action.reference,
                now=now,
            )
        except (write_offs.MoreThanOwed, write_offs.MonthClosed) as error:
            raise Refused(str(error)) from error


def unpaid(account: Account) -> QuerySet[Invoice]:
    """Return the invoices of usage that are not paid, the newest first."""
    bills_usage = Q(month__isnull=False) | Q(interim__isnull=False)
    states = [Invoice.State.OPEN, Invoice.State.UNCOLLECTIBLE]
    invoices = Invoice.objects.filter(bills_usage, organization_id=account.organization_id, state__in=states)
    return invoices.order_by("-drafted_at", "-id")


class InvoiceForm(ParamsForm):
    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        self.fields["invoice"] = forms.ModelChoiceField(label="Invoice", queryset=unpaid(account))

    def params(self) -> dict[str, Any]:
        return {"invoice": self.cleaned_data["invoice"].pk}


class WriteOff(Kind):
    name = "write_off"
    label = "Write an invoice off"
    explanation = "For an invoice that nobody will pay: Stripe stops collecting, and the debt leaves the books."
    form = InvoiceForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return self._owed(self._invoice(account, params), now)

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        invoice = self._invoice(account, params)
        owed, micros = balances.balance(account, now=now).accrued_micros, self._owed(invoice, now)
        return [
            Change("Owed in all", owed, owed - micros),
            Change(f"Invoice {invoice}", note="Becomes uncollectible at Stripe; nobody is charged for it any more."),
            Change("If it is paid after all", note="The write-off is undone by itself, and the payment recorded."),
        ]

    def prepare(self, action: StaffAction, *, now: datetime) -> None:
        invoice = self._invoice(action.organization.account, action.params)
        try:
            bad_debts.stop_collecting(invoice, now=now)
        except (gateway.Unavailable, gateway.RateLimited, intents.OutcomeUnknown) as error:
            raise Refused(_STRIPE_AWAY) from error
        except (gateway.Refused, bad_debts.NotGivenUp) as error:
            raise Refused(str(error)) from error

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        invoice = self._invoice(action.organization.account, action.params)
        try:
            bad_debts.write_off(invoice, reason=action.reason, reference=action.reference, now=now)
        except (bad_debts.NotGivenUp, write_offs.AlreadyGivenUp, write_offs.MoreThanOwed) as error:
            raise Refused(str(error)) from error

    def _invoice(self, account: Account, params: dict[str, Any]) -> Invoice:
        invoices_of = Invoice.objects.select_related("organization")
        return invoices_of.get(pk=params["invoice"], organization_id=account.organization_id)

    def _owed(self, invoice: Invoice, now: datetime) -> int:
        owed = bad_debts.owed_micros(invoice, now=now)
        if not owed:
            raise Refused(f"Nothing is owed for {invoice} any more.")
        return owed


class UndoForm(ParamsForm):
    def __init__(self, *args: Any, account: Account, **kwargs: Any) -> None:
        super().__init__(*args, account=account, **kwargs)
        self.fields["transaction"] = forms.ModelChoiceField(label="What is undone", queryset=undoable(account))

    def params(self) -> dict[str, Any]:
        return {"transaction": self.cleaned_data["transaction"].pk}


def undoable(account: Account) -> Any:
    """Return what staff did and can still undo: credit taken back, and what was forgiven or written off."""
    kinds = [Posted.REVERSE, Posted.WRITE_OFF]
    done = Transaction.objects.filter(organization_id=account.organization_id, kind__in=kinds, reversed_by=None)
    return done.order_by("-id")


class Undo(Kind):
    name = "undo"
    label = "Undo a reversal or a write-off"
    explanation = "Answers what staff did by its opposite. Both stay visible."
    form = UndoForm

    def amount_micros(self, account: Account, params: dict[str, Any], *, now: datetime) -> int:
        return sum(abs(micros) for micros in self._moved(account, params).values())

    def preview(self, account: Account, params: dict[str, Any], *, now: datetime) -> list[Change]:
        balance, moved = balances.balance(account, now=now), self._moved(account, params)
        changes = []
        if credit := moved["credit"]:
            changes.append(Change("Credit left", balance.credit_micros, balance.credit_micros - credit))
        if receivable := moved["receivable"]:
            changes.append(Change("Owed in all", balance.accrued_micros, balance.accrued_micros + receivable))
        return changes

    def perform(self, action: StaffAction, *, now: datetime) -> None:
        try:
            reversals.reverse(
                organization=action.organization,
                transaction_id=action.params["transaction"],
                reason=action.reason,
                reference=action.reference,
                now=now,
            )
        except (reversals.AlreadyReversed, reversals.NotReversible) as error:
            raise Refused(str(error)) from error

    def _moved(self, account: Account, params: dict[str, Any]) -> dict[str, int]:
        posted = undoable(account).filter(pk=params["transaction"]).first()
        if posted is None:
            raise Refused("It is undone already.")
        moved = {"credit": 0, "receivable": 0}
        for entry in posted.entries.all():
            if entry.book in moved:
                moved[entry.book] += entry.micros
        return moved
