"""A receipt as its page shows it: the file, how far it is, the root as a picture."""

from dataclasses import dataclass

import qrcode
from qrcode.constants import ERROR_CORRECT_M

from billing_portal.billing.models import Invoice, Receipt, ReceiptFile
from billing_portal.billing.receipts import canonical, jobs

_SHORT = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """A QR code: how many modules wide it is, and its dark modules as one path."""

    size: int
    path: str


@dataclass(frozen=True, slots=True)
class ShownReceipt:
    """The receipt of an invoice, if its roots are made, and its newest file, if one was asked for."""

    invoice: Invoice
    receipt: Receipt | None
    file: ReceiptFile | None

    @property
    def short_root(self) -> str:
        """The first and last digits of the usage root, as people compare them."""
        root = self.receipt.usage_root if self.receipt else ""
        return f"{root[:_SHORT]} … {root[-_SHORT:]}" if root else ""

    @property
    def is_ready(self) -> bool:
        """Whether there is a file to fetch that says what is known by now."""
        return self.file is not None and jobs.is_current(self.file)

    @property
    def calls(self) -> int:
        """How many calls stand under the root."""
        return self._lines("calls.jsonl")

    @property
    def outcomes(self) -> int:
        """How many outcomes stand under the root."""
        return self._lines("outcomes.jsonl")

    def _lines(self, name: str) -> int:
        if self.receipt is None:
            return 0
        return int(canonical.decode(self.receipt.usage_head)["files"][name][0])


def of(invoice: Invoice) -> ShownReceipt:
    """Return the receipt of an invoice as it is shown."""
    receipt = Receipt.objects.filter(invoice=invoice).select_related("usage_key", "invoice_key").first()
    return ShownReceipt(invoice, receipt, jobs.newest(invoice))


def picture(root: str) -> Picture:
    """Return a root as a QR code, for a phone to compare with the foot of the invoice."""
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_M, border=4)
    code.add_data(f"sha256:{root}")
    rows = code.get_matrix()
    path = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark)
    return Picture(len(rows), path)
