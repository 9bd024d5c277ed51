"""An invoice on paper."""

from billing_portal.sandbox.browser import money, pages, pdf
from billing_portal.sandbox.store import Object

_LEFT, _RIGHT, _QUANTITY, _BOTTOM = 56, pdf.WIDTH - 56, 430, pdf.HEIGHT - 80
_LONGEST = 64  # characters of a description that fit before the quantity


def build(invoice: Object, lines: list[Object], totals: list[tuple[str, int]], *, merchant: str) -> bytes:
    """Lay out an A4 invoice; lines run on over as many pages as they need."""
    paper = pdf.Document()
    y = _head(paper, invoice, merchant)
    for line in lines:
        y = _line(paper, line, y)
    _sums(paper, totals, invoice["currency"], _room(paper, y, 22 * len(totals) + 20))
    number = invoice.get("number") or invoice["id"]
    return paper.build(title=f"Invoice {number}")


def _head(paper: pdf.Document, invoice: Object, merchant: str) -> float:
    paper.text(_LEFT, 80, "Invoice", size=24, bold=True)
    paper.text(_RIGHT, 80, merchant, size=13, bold=True, right=True)
    paper.text(_RIGHT, 96, "Sandbox: not a real invoice", size=9, right=True)
    issued = (invoice.get("status_transitions") or {}).get("finalized_at") or invoice["created"]
    facts = {
        "Invoice number": invoice.get("number") or invoice["id"],
        "Date of issue": pages.day(issued),
        "Date due": pages.day(invoice.get("due_date")),
        "Status": (invoice["status"] or "").capitalize(),
        "Bill to": invoice.get("customer_name") or invoice.get("customer_email") or "",
    }
    facts |= _party(invoice)
    y = 126
    for name, value in facts.items():
        if value:
            paper.text(_LEFT, y, name, bold=True)
            paper.text(_LEFT + 110, y, value)
            y += 16
    return _columns(paper, y + 24)


def _party(invoice: Object) -> dict[str, str]:
    """Return what the invoice says of its customer beside the name."""
    address = invoice.get("customer_address") or {}
    place = ", ".join(
        address[part] for part in ("line1", "line2", "postal_code", "city", "state", "country") if address.get(part)
    )
    ids = ", ".join(each["value"] for each in invoice.get("customer_tax_ids") or [] if each["value"])
    fields = {each["name"]: each["value"] for each in invoice.get("custom_fields") or []}
    return {"Address": place, "Tax ID": ids, **fields}


def _columns(paper: pdf.Document, y: float) -> float:
    paper.text(_LEFT, y, "Description", size=9)
    paper.text(_QUANTITY, y, "Quantity", size=9, right=True)
    paper.text(_RIGHT, y, "Amount", size=9, right=True)
    paper.rule(_LEFT, y + 7, _RIGHT)
    return y + 26


def _room(paper: pdf.Document, y: float, needed: float) -> float:
    """Return where to go on: here, or at the top of a new page when the rest does not fit."""
    if y + needed <= _BOTTOM:
        return y
    paper.new_page()
    return 80


def _line(paper: pdf.Document, line: Object, y: float) -> float:
    if y + 30 > _BOTTOM:
        paper.new_page()
        y = _columns(paper, 80)
    text = line.get("description") or "Usage"
    paper.text(_LEFT, y, text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
    if line.get("quantity") is not None:
        paper.text(_QUANTITY, y, f"{line['quantity']:,}", right=True)
    paper.text(_RIGHT, y, money.display(line["amount"], line["currency"]), right=True)
    period = line.get("period") or {}
    if period.get("start"):
        paper.text(_LEFT, y + 12, f"{pages.day(period['start'])} – {pages.day(period['end'])}", size=8)
    return y + 30


def _sums(paper: pdf.Document, totals: list[tuple[str, int]], currency: str, y: float) -> None:
    paper.rule(_LEFT, y - 10, _RIGHT)
    for name, amount in totals:
        bold = name in ("Total", "Amount due")
        paper.text(_QUANTITY, y + 6, name, bold=bold, right=True)
        paper.text(_RIGHT, y + 6, money.display(amount, currency), bold=bold, right=True)
        y += 22
