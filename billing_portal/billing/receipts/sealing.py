"""Signing: the root over the usage while the invoice is a draft, the root over the invoice once it is final.

Both are made once and stand. The first is put on Stripe's draft, so that it stands on a document that we cannot change
any more, before anybody could know what else he might wish it to say.
"""

import hashlib
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from billing_portal.billing import gateway, minor_units
from billing_portal.billing.models import Invoice, Receipt, ReceiptPayment
from billing_portal.billing.receipts import canonical, contents, keys, merkle, scopes
from billing_portal.billing.receipts.contents import Files
from billing_portal.billing.receipts.scopes import Scope

log = structlog.get_logger(__name__)

METADATA = "receipt_root"


class NotFinal(Exception):
    """The invoice is still a draft, or its lines are not stored yet: there is nothing final to sign."""

    def __init__(self, invoice: Invoice) -> None:
        super().__init__(f"{invoice} is not final yet; its receipt is there once it is.")
        self.invoice = invoice


def anchor(invoice: Invoice, *, now: datetime) -> Receipt:
    """Make the receipt of a draft, and put its root on the draft at Stripe: in its metadata, and at its foot to read.

    Call it when nothing that the invoice bills changes any more. Raises what the gateway raises.
    """
    receipt = make(invoice, now=now)
    stripe_invoice = gateway.retrieve("invoices", invoice.stripe_invoice_id)
    if (stripe_invoice.get("metadata") or {}).get(METADATA) != receipt.usage_root:
        foot = [stripe_invoice.get("footer") or "", footer(receipt)]
        gateway.update(
            "invoices",
            invoice.stripe_invoice_id,
            {"metadata": {METADATA: receipt.usage_root}, "footer": "\n".join(filter(None, foot))},
            f"receipt:{invoice.stripe_invoice_id}:{receipt.usage_root}",
        )
    Receipt.objects.filter(pk=receipt.pk, anchored_at=None).update(anchored_at=now)
    receipt.refresh_from_db()
    return receipt


def footer(receipt: Receipt) -> str:
    """Return what a draft says of its receipt at its foot."""
    return f"The usage behind this invoice, SHA-256 root: {receipt.usage_root}"


def make(invoice: Invoice, *, now: datetime) -> Receipt:
    """Return the invoice's receipt with its first root, made from the books if there is none.

    Reads every call of the month, with memory that does not grow with them. Raises scopes.NothingToProve.
    """
    known = Receipt.objects.filter(invoice=invoice).first()
    if known is not None:
        return known
    scope = scopes.of(invoice, now=now)
    trees = _trees(contents.usage_files(scope))
    head = canonical.encode(_usage_head(scope, trees))
    signature, key = keys.sign(root_of(head), now=now)
    receipt, made = Receipt.objects.get_or_create(
        invoice=invoice,
        defaults={
            "organization_id": invoice.organization_id,
            "month": scope.month,
            "through_sequence": scope.through.sequence,
            "through_transaction_id": scope.through.transaction_id,
            "usage_head": head,
            "usage_root": root_of(head),
            "usage_signature": signature,
            "usage_key": key,
            "subtrees": {name: [each.hex() for each in tree.subtrees] for name, tree in trees.items()},
            "made_at": now,
        },
    )
    if made:
        log.info("receipt made", invoice_id=invoice.pk, organization_id=invoice.organization_id, root=root_of(head))
    return receipt


def seal(invoice: Invoice, *, now: datetime) -> Receipt:
    """Return the receipt of a final invoice whose lines are stored, with its second root, signed if it is not yet.

    Raises NotFinal, scopes.NothingToProve.
    """
    check_final(invoice)
    receipt = make(invoice, now=now)
    with transaction.atomic():
        receipt = Receipt.objects.select_for_update(of=("self",)).select_related("invoice").get(pk=receipt.pk)
        if receipt.sealed_at is None:
            shape = contents.shape_of(receipt.invoice)
            trees = _trees(contents.invoice_files(receipt.invoice, shape=shape))
            head = canonical.encode(_invoice_head(receipt, trees, shape, now))
            receipt.invoice_head, receipt.invoice_root, receipt.sealed_at = head, root_of(head), now
            receipt.invoice_signature, receipt.invoice_key = keys.sign(root_of(head), now=now)
            receipt.save()
    return receipt


def check_final(invoice: Invoice) -> None:
    """Raise NotFinal unless the invoice is final and its lines are stored; a void one has only what was made before."""
    without_lines = invoice.subtotal_minor and not invoice.lines.exists()
    is_void = invoice.state == Invoice.State.VOID and not Receipt.objects.filter(invoice=invoice).exists()
    if invoice.state == Invoice.State.DRAFT or without_lines or is_void:
        raise NotFinal(invoice)


def note_payment(receipt: Receipt, *, now: datetime) -> list[ReceiptPayment]:
    """Append a signed record if the invoice's money moved since the last one; return all records, in order."""
    with transaction.atomic():
        receipt = Receipt.objects.select_for_update(of=("self",)).select_related("invoice").get(pk=receipt.pk)
        records = list(receipt.payments.select_related("key").order_by("number"))
        if records and not has_moved(invoice=receipt.invoice, last=records[-1]):
            return records
        before = root_of(bytes(records[-1].body)) if records else receipt.invoice_root
        body = canonical.encode(
            _payment_facts(receipt.invoice)
            | {"before": before, "number": len(records) + 1, "recorded_at": canonical.instant(now)}
        )
        signature, key = keys.sign(root_of(body), now=now)
        record = ReceiptPayment.objects.create(
            organization_id=receipt.organization_id,
            receipt=receipt,
            number=len(records) + 1,
            body=body,
            signature=signature,
            key=key,
        )
    return [*records, record]


def has_moved(*, invoice: Invoice, last: ReceiptPayment) -> bool:
    """Say whether the invoice's money is elsewhere than its last payment record says."""
    return not _payment_facts(invoice).items() <= canonical.decode(last.body).items()


def root_of(head: bytes | memoryview) -> str:
    """Return the root that a head stands for, in hexadecimal: its SHA-256, marked as that of a head."""
    return hashlib.sha256(b"\2" + bytes(head)).hexdigest()


def _trees(files: Files) -> dict[str, merkle.Tree]:
    return {name: merkle.of(lines()) for name, lines in files}


def _files_in_head(trees: dict[str, merkle.Tree]) -> dict[str, list[Any]]:
    return {name: [tree.lines, merkle.root(tree.subtrees).hex()] for name, tree in trees.items()}


def _usage_head(scope: Scope, trees: dict[str, merkle.Tree]) -> dict[str, Any]:
    period = scope.period
    return {
        "currency": scope.invoice.currency,
        "ends_at": canonical.instant_or_none(period.ends_at if period else None),
        "files": _files_in_head(trees),
        "format": contents.FIRST,
        "interim": str(scope.interim.public_id) if scope.interim else None,
        "invoice": scope.invoice.stripe_invoice_id,
        "made_at": canonical.instant(scope.made_at),
        "minor_digits": minor_units.exponent(scope.invoice.currency),
        "month": scope.month.isoformat(),
        "organization": str(scope.invoice.organization.public_id),
        "starts_at": canonical.instant_or_none(period.starts_at if period else None),
        "time_zone": period.time_zone if period else None,
    }


def _invoice_head(receipt: Receipt, trees: dict[str, merkle.Tree], shape: int, now: datetime) -> dict[str, Any]:
    return {
        "files": _files_in_head(trees),
        "format": shape,
        "invoice": receipt.invoice.stripe_invoice_id,
        "sealed_at": canonical.instant(now),
        "usage": receipt.usage_root,
    }


def _payment_facts(invoice: Invoice) -> dict[str, Any]:
    return {
        "amount_due_minor": invoice.amount_due_minor,
        "amount_paid_minor": invoice.amount_paid_minor,
        "currency": invoice.currency,
        "ending_balance_minor": invoice.ending_balance_minor,
        "invoice": invoice.stripe_invoice_id,
        "paid_at": canonical.instant_or_none(invoice.paid_at),
        "post_credited_minor": invoice.post_credited_minor,
        "pre_credited_minor": invoice.pre_credited_minor,
        "state": invoice.state,
    }
