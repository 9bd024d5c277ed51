"""Months over the sandbox whose receipts are made, and the verifier that customers run."""

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accounts.models import Organization
from billing_portal.billing import gateway, invoices
from billing_portal.billing.models import Invoice
from billing_portal.billing.receipts import packing, sealing, verify_receipt
from tests.billing.world import CLOSING


def packed(invoice: Invoice, path: Path, *, now: Any = CLOSING) -> Path:
    """Write the receipt of a final invoice to `path`."""
    invoice.refresh_from_db()
    receipt = sealing.seal(invoice, now=now)
    packing.pack(receipt, sealing.note_payment(receipt, now=now), path)
    return path


@dataclass(frozen=True)
class Verdict:
    code: int
    text: str

    @property
    def verified(self) -> bool:
        return self.code == 0 and self.text.startswith("verified")


def verify(path: Path, *arguments: str) -> Verdict:
    """Run the verifier as a customer does, in this process."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = verify_receipt.main([str(path), *arguments])
    return Verdict(code, out.getvalue())


def verify_call(path: Path, *arguments: str) -> Verdict:
    """Run the verifier on the proof of one call."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = verify_receipt.main(["--call", str(path), *arguments])
    return Verdict(code, out.getvalue())


def content(path: Path) -> dict[str, bytes]:
    """Return the files of a ZIP."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(files: dict[str, bytes], path: Path) -> Path:
    """Write files as a ZIP that has the form of a receipt, its seal made anew."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, each in files.items():
            if name != packing.SEAL:
                packing._put(archive, name, each)
    packing._close(path)
    return path


def changed(lines: bytes, number: int, change: Callable[[Any], Any]) -> bytes:
    """Return a file of lines with one of them changed."""
    found = lines.splitlines()
    value = json.loads(found[number])
    found[number] = json.dumps(change(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join(line + b"\n" for line in found)


def assert_all_verified(organization: Organization, directory: Path) -> int:
    """Verify the receipt of every final invoice of usage, each against the root at the foot of it; return how many."""
    final = Invoice.objects.filter(organization=organization).exclude(state__in=["draft", "void"])
    of_usage = [each for each in final.order_by("id") if invoices.usage_month(each)]
    for invoice in of_usage:
        foot = gateway.retrieve("invoices", invoice.stripe_invoice_id)["footer"]
        verdict = verify(packed(invoice, directory / f"{invoice.pk}.zip"), "--root", foot.rpartition(" ")[2])
        assert verdict.verified, verdict.text
    return len(of_usage)
