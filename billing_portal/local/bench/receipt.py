"""Seconds and memory to make a receipt of a million calls, and to verify it; also after its worker was killed."""

import argparse
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from django.db import connection, connections, transaction
from django.test import override_settings

from accounts.models import Organization
from billing_portal.billing import credit_lines, discounts, metering, minor_units
from billing_portal.billing.models import Customer, Invoice, InvoiceLine, ReceiptFile
from billing_portal.billing.receipts import canonical, jobs, packing, proofs, sealing, verify_receipt
from billing_portal.ledger import accounts, credits, periods, settlement, totals
from billing_portal.ledger.models import Grant
from billing_portal.local.bench import Figure, at_most, load, rows

_MONTH = load.MONTH.date()
_NOW = load.ENDS_AT + timedelta(hours=13)
_CREDIT_MICROS = 50_000_000_000
_UNSETTLE = """
    UPDATE usage_callrange SET first_sequence = NULL, billed_month = NULL, time_zone = '' WHERE organization_id = %s"""
_fork = multiprocessing.get_context("fork")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000_000, help="of one month (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield how long sealing, packing, verifying and proving one call take, and the memory of each."""
    invoice = _billed_month(options.calls)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _peak_mb()
    started = time.perf_counter()
    sealing.make(invoice, now=_NOW)
    yield Figure(f"usage root over {options.calls:,} calls", time.perf_counter() - started, "s")
    _finalize(invoice)
    receipt = sealing.seal(invoice, now=_NOW)
    payments = sealing.note_payment(receipt, now=_NOW)
    with tempfile.TemporaryDirectory() as directory, override_settings(EXPORTS_DIR=directory):
        path, told = Path(directory) / "receipt.zip", list[int]()
        started = time.perf_counter()
        packing.pack(receipt, payments, path, tell=told.append)
        yield Figure("file written", time.perf_counter() - started, "s")
        yield Figure("  times that it said how far it is", len(told), "")
        yield Figure("  size", path.stat().st_size / 1e6, "MB")
        yield Figure("memory that grew meanwhile", _peak_mb() - before, "MB", goal=at_most(64))
        yield from _verified(path, receipt.usage_root)
        yield from _killed(invoice, path)
    started = time.perf_counter()
    proof = canonical.encode(proofs.prove(receipt, options.calls // 2))
    yield Figure("proof of one call", (time.perf_counter() - started) * 1000, "ms")
    yield Figure("  size", len(proof), "B", goal=at_most(4_096))


def _verified(path: Path, root: str) -> Iterator[Figure]:
    started = time.perf_counter()
    command = [sys.executable, "-I", verify_receipt.__file__, str(path), "--root", root]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    most = 0.0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        most = max(most, _peak_mb(process.pid))
        time.sleep(0.05)
    process.returncode, used = ended[1], ended[2]
    assert process.stdout is not None
    said = process.stdout.read()
    assert said.startswith("verified"), said
    yield Figure("verified, by the clock", time.perf_counter() - started, "s")
    yield Figure("  of one core", used.ru_utime + used.ru_stime, "s", goal=at_most(60))
    yield Figure("  memory of the verifier", most, "MB", goal=at_most(64))


def _killed(invoice: Invoice, whole: Path) -> Iterator[Figure]:
    """Kill a worker in the middle of the file, let another one make it, and hold its bytes against the first ones."""
    file = jobs.ask(invoice, now=_NOW)
    connections.close_all()  # a forked process must not share a connection
    worker = _fork.Process(target=jobs.write, args=(file.pk,), kwargs={"clock": lambda: _NOW})
    worker.start()
    while not ReceiptFile.objects.filter(pk=file.pk, lines_done__gt=0).exists():
        assert worker.is_alive(), "the worker is killed before it is done"
        time.sleep(0.05)
    worker.kill()
    worker.join()
    ReceiptFile.objects.filter(pk=file.pk).update(touched_at=_NOW - timedelta(days=366))
    assert jobs.abandoned(1) == [file.pk]
    started = time.perf_counter()
    jobs.write(file.pk, clock=lambda: _NOW)
    yield Figure("made by another worker once the first was killed", time.perf_counter() - started, "s")
    file.refresh_from_db()
    is_same = file.state == ReceiptFile.State.READY and jobs.path_of(file).read_bytes() == whole.read_bytes()
    yield Figure("  with other bytes", int(not is_same), "", goal=at_most(0))


def _billed_month(calls: int) -> Invoice:
    """Return the draft of a closed month with so many calls, half paid by credit and discounted, all reported."""
    [organization] = load.organizations(1)
    account = accounts.open(organization=organization, now=load.MONTH)
    periods.of_instant(account, load.MONTH)
    _customer(organization, load.MONTH)
    rows.hold([organization], calls)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger keeps them then
        cursor.execute(_UNSETTLE, [organization.pk])
    credits.grant(
        organization=organization,
        kind=Grant.Kind.PREPAID,
        micros=_CREDIT_MICROS,
        reference="bench",
        now=load.MONTH,
    )
    discounts.enter(
        organization=organization,
        percent_hundredths=1_000,
        amount_micros=None,
        first_month=_MONTH,
        months=None,
        reason="Bench",
        reference="bench",
        now=load.MONTH,
    )
    settlement.settle_all(organization.pk, now=load.MONTH + timedelta(days=20))
    discounts.close_month(organization.pk, _MONTH, now=_NOW)
    assert metering.write_reports(organization.pk, now=_NOW)
    return Invoice.objects.create(
        organization=organization, stripe_invoice_id="in_bench", month=_MONTH, currency="USD", drafted_at=_NOW
    )


def _customer(organization: Organization, at: datetime) -> None:
    ids = {"stripe_customer_id": "cus_bench", "stripe_subscription_id": "sub_bench"}
    terms = {"subscribed_at": at, "created_at": at}
    Customer.objects.get_or_create(organization=organization, defaults={**ids, **terms})


@dataclass(frozen=True, slots=True)
class _Line:
    """What Stripe would bill of one component, or take off it."""

    kind: str
    component: str
    grant_kind: str
    quantity: int
    amount_minor: int


def _finalize(invoice: Invoice) -> None:
    """Let the invoice have the lines that Stripe would give it, and be paid."""
    lines = list(_lines(invoice, _MONTH))
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            organization=invoice.organization,
            invoice=invoice,
            stripe_line_id=f"il_{position}",
            position=position,
            kind=line.kind,
            component=line.component,
            grant_kind=line.grant_kind,
            quantity=line.quantity,
            amount_minor=line.amount_minor,
            currency="USD",
        )
        for position, line in enumerate(lines, start=1)
    )
    total = sum(line.amount_minor for line in lines)
    invoice.subtotal_minor = invoice.total_minor = invoice.amount_due_minor = invoice.amount_paid_minor = total
    invoice.state, invoice.number, invoice.finalized_at, invoice.paid_at = Invoice.State.PAID, "BENCH-1", _NOW, _NOW
    invoice.save()


def _lines(invoice: Invoice, month: date) -> Iterator[_Line]:
    for component, micros in totals.month(invoice.organization_id, month).gross.items():
        amount = minor_units.from_micros(micros, "USD")
        yield _Line(InvoiceLine.Kind.USAGE, component, "", micros, amount)
    for credit in credit_lines.due(invoice):
        yield _Line(InvoiceLine.Kind.CREDIT, credit.component, credit.grant_kind, 0, -credit.amount_minor)


def _peak_mb(pid: int | str = "self") -> float:
    """Return the most memory that a process ever held; nothing of one that has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1000 if found else 0.0
