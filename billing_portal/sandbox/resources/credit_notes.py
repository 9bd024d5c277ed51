"""Credit notes: less to pay on an open invoice; a refund, credit or note of money returned on a paid one."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import currencies, generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import as_list, page, render
from billing_portal.sandbox.store import Object

from . import collection, customers, refunds

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

LINES_SHOWN = 10


def _lines(box: "Sandbox", note: Object) -> list[Object]:
    return box.store.where("credit_note_line_item", _note=note["id"])


def _present(box: "Sandbox", note: Object, shown: Object) -> None:
    found = _lines(box, note)
    shown["lines"] = as_list(
        [render(box, line) for line in found[:LINES_SHOWN]],
        f"/v1/credit_notes/{note['id']}/lines",
        has_more=len(found) > LINES_SHOWN,
    )


resource(
    "credit_note",
    "cn",
    "/v1/credit_notes",
    present=_present,
    defaults={"status": "issued", "total_taxes": [], "refunds": [], "discount_amounts": []},
)
resource("credit_note_line_item", "cnli", defaults={"taxes": []})


@operation("POST", "/v1/credit_notes")
def create(box: "Sandbox", call: generic.Call) -> Object:
    return issue(box, call.params)


def issue(box: "Sandbox", params: dict[str, Any]) -> Object:
    """Make a credit note and let it take effect."""
    invoice = box.get("invoice", params["invoice"], param="invoice")
    if invoice["status"] not in {"open", "paid", "uncollectible"}:
        raise invalid(f"You cannot issue a credit note for an invoice that is {invoice['status']}.", param="invoice")
    lines = [_read_line(box, invoice, each) for each in params.get("lines", ())]
    if not lines and "amount" not in params:
        raise invalid("You must pass `amount` or `lines`.", param="amount", code="parameter_missing")
    lines = lines or [_plain_line(invoice, params["amount"])]
    total = sum(line["amount"] + line["_tax"] for line in lines)
    if "amount" in params and params["amount"] != total:
        raise invalid(f"The sum of lines ({total}) does not match the amount ({params['amount']}).", param="amount")
    _check_left(box, invoice, total)
    note = _store(box, invoice, params, lines, total)
    _take_effect(box, note, invoice, params)
    box.tell(note, "created")
    return note


def _read_line(box: "Sandbox", invoice: Object, given: dict[str, Any]) -> dict[str, Any]:
    """A line with the tax that belongs to it: that of its invoice line, in proportion."""
    metadata = {k: v for k, v in (given.get("metadata") or {}).items() if v != ""}
    if given["type"] == "custom_line_item":
        quantity = given.get("quantity", 1)
        return {
            "type": "custom_line_item",
            "description": given.get("description"),
            "amount": given["unit_amount"] * quantity if "unit_amount" in given else given.get("amount", 0),
            "unit_amount": given.get("unit_amount"),
            "unit_amount_decimal": str(given["unit_amount"]) if "unit_amount" in given else None,
            "quantity": quantity,
            "metadata": metadata,
            "_tax": 0,
        }
    line = box.get("line_item", given.get("invoice_line_item"), param="lines[0][invoice_line_item]")
    if line["invoice"] != invoice["id"]:
        raise invalid("The line belongs to another invoice.", param="lines[0][invoice_line_item]")
    amount = int(given["amount"] if "amount" in given else line["amount"])
    if amount > line["amount"]:
        raise invalid("The credit is larger than the line.", param="lines[0][amount]")
    return {
        "type": "invoice_line_item",
        "description": given.get("description") or line["description"],
        "amount": amount,
        "invoice_line_item": line["id"],
        "quantity": given.get("quantity"),
        "metadata": metadata,
        **_taxes(line, amount),
    }


def _taxes(line: Object, amount: int) -> dict[str, Any]:
    entries, on_top = [], 0
    for tax in line["taxes"] or ():
        share = currencies.share(tax["amount"], amount, line["amount"])
        entries.append(tax | {"amount": share, "taxable_amount": amount})
        on_top += share if tax["tax_behavior"] == "exclusive" else 0
    return {"taxes": entries, "_tax": on_top}


def _plain_line(invoice: Object, amount: int) -> dict[str, Any]:
    """For a bare amount: tax included in it as in the invoice's total."""
    on_top = invoice["total"] - (invoice["total_excluding_tax"] or 0)
    tax = currencies.share(on_top, amount, invoice["total"]) if invoice["total"] else 0
    entries = [
        each | {"amount": currencies.share(each["amount"], amount, invoice["total"]), "taxable_amount": amount - tax}
        for each in (invoice["total_taxes"] or () if invoice["total"] else ())
    ]
    return {
        "type": "custom_line_item", "description": "Credit", "amount": amount - tax, "quantity": 1,
        "unit_amount": amount - tax, "taxes": entries, "metadata": {}, "_tax": tax,
    }  # fmt: skip


def _check_left(box: "Sandbox", invoice: Object, total: int) -> None:
    notes = [n for n in box.store.where("credit_note", invoice=invoice["id"]) if n["status"] == "issued"]
    left = invoice["total"] - sum(n["total"] for n in notes)
    if total > left or total < 1:
        raise invalid(
            f"The credit note's amount ({total}) must be positive and at most what is left of the invoice ({left}).",
            param="amount",
        )


def _store(box: "Sandbox", invoice: Object, params: dict[str, Any], lines: list[dict[str, Any]], total: int) -> Object:
    identifier = box.new_id("cn")
    count = len(box.store.where("credit_note", invoice=invoice["id"])) + 1
    net = sum(line["amount"] for line in lines)
    inclusive = sum(t["amount"] for line in lines for t in line.get("taxes", ()) if t["tax_behavior"] == "inclusive")
    fields = box.overlay(
        "credit_note", {k: params[k] for k in ("memo", "metadata", "reason", "effective_at") if k in params}
    )
    note = box.create(
        "credit_note",
        emit=False,
        **fields,
        id=identifier,
        amount=total,
        currency=invoice["currency"],
        customer=invoice["customer"],
        invoice=invoice["id"],
        number=f"{invoice['number']}-CN-{count:02d}",
        pdf=f"{box.base_url}/credit_notes/{identifier}/pdf",
        subtotal=net,
        subtotal_excluding_tax=net - inclusive,
        total=total,
        total_excluding_tax=net - inclusive,
        total_taxes=_sum_taxes(lines),
    )
    for line in lines:
        box.create("credit_note_line_item", emit=False, **line, _note=identifier)
    return note


def _sum_taxes(lines: list[dict[str, Any]]) -> list[Object]:
    totals: dict[str, Object] = {}
    for tax in (tax for line in lines for tax in line.get("taxes", ())):
        key = tax["tax_rate_details"]["tax_rate"]
        known = totals.get(key)
        totals[key] = known | {name: known[name] + tax[name] for name in ("amount", "taxable_amount")} if known else tax
    return list(totals.values())


def _take_effect(box: "Sandbox", note: Object, invoice: Object, params: dict[str, Any]) -> None:
    pre = min(note["total"], invoice["amount_remaining"]) if invoice["status"] != "paid" else 0
    post = note["total"] - pre
    kind = "mixed" if pre and post else "pre_payment" if pre else "post_payment"
    box.change(note, pre_payment_amount=pre, post_payment_amount=post, type=kind)
    if pre:
        _reduce(box, invoice, pre)
    if post:
        _give_back(box, note, invoice, params, post)
    box.tell(invoice, "updated", {})


def _reduce(box: "Sandbox", invoice: Object, amount: int) -> None:
    """Less is left to pay; nothing left means paid."""
    left = invoice["amount_remaining"] - amount
    box.change(
        invoice,
        amount_due=invoice["amount_due"] - amount,
        amount_remaining=left,
        pre_payment_credit_notes_amount=invoice["pre_payment_credit_notes_amount"] + amount,
    )
    intent = box.store.get("payment_intent", invoice.get("_intent") or "")
    payment = box.store.get("invoice_payment", invoice.get("_payment") or "")
    if left == 0:
        collection.close(box, invoice, "void_invoice")
        collection.mark_paid(box, invoice)
    elif left > 0 and intent and payment:
        box.change(intent, amount=left)
        box.change(payment, amount_requested=left)
    elif left < 0:
        box.change(invoice, amount_due=max(0, invoice["amount_due"]))


def _give_back(box: "Sandbox", note: Object, invoice: Object, params: dict[str, Any], post: int) -> None:
    """What was paid goes back by refund, to the balance, or was returned elsewhere; the three must add up."""
    refund, credit = params.get("refund_amount", 0), params.get("credit_amount", 0)
    outside = params.get("out_of_band_amount", 0)
    linked = [box.get("refund", r["refund"], param="refunds[0][refund]") for r in params.get("refunds", ())]
    given = refund + credit + outside + sum(r["amount"] for r in linked)
    if given != post:
        raise invalid(
            f"The sum of credit amount, refund amount and out of band amount ({given}) must equal the post payment"
            f" credit note amount ({post}).",
            param="refund_amount",
        )
    if refund:
        charge = _charge(box, invoice)
        linked.append(refunds.refund(box, charge, refund, reason="requested_by_customer", metadata={}))
    entries = [
        {"amount_refunded": r["amount"], "payment_record_refund": None, "refund": r["id"], "type": "refund"}
        for r in linked
    ]
    box.change(note, refunds=entries, out_of_band_amount=outside or None)
    total = invoice["post_payment_credit_notes_amount"] + post
    box.change(invoice, post_payment_credit_notes_amount=total)
    if credit:
        customer = box.get("customer", invoice["customer"])
        entry = customers.move_balance(
            box, customer, -credit, invoice["currency"], "credit_note", tell=True,
            credit_note=note["id"], invoice=invoice["id"],
        )  # fmt: skip
        box.change(note, customer_balance_transaction=entry["id"] if entry else None)


def _charge(box: "Sandbox", invoice: Object) -> Object:
    intent = box.store.get("payment_intent", invoice.get("_intent") or "")
    charge = box.store.get("charge", (intent or {}).get("latest_charge") or "")
    if charge is None or charge["status"] != "succeeded":
        raise invalid("The invoice was not paid by a charge that could be refunded.", param="refund_amount")
    return charge


@operation("POST", "/v1/credit_notes/{id}/void")
def void(box: "Sandbox", call: generic.Call) -> Object:
    note = box.get("credit_note", call.ids["id"])
    invoice = box.get("invoice", note["invoice"])
    if note["status"] == "void" or note["post_payment_amount"] or invoice["status"] != "open":
        raise invalid("Only issued credit notes of open invoices can be voided.", code="credit_note_not_voidable")
    amount = note["pre_payment_amount"]
    box.change(
        invoice,
        amount_due=invoice["amount_due"] + amount,
        amount_remaining=invoice["amount_remaining"] + amount,
        pre_payment_credit_notes_amount=invoice["pre_payment_credit_notes_amount"] - amount,
    )
    if intent := box.store.get("payment_intent", invoice.get("_intent") or ""):
        box.change(intent, amount=invoice["amount_remaining"])
    box.change(note, status="void", voided_at=box.time_of(invoice))
    box.tell(note, "voided")
    return note


@operation("GET", "/v1/credit_notes/preview")
def preview(box: "Sandbox", call: generic.Call) -> Object:
    with box.pretend():
        return render(box, issue(box, call.params))


@operation("GET", "/v1/credit_notes/{credit_note}/lines")
def list_lines(box: "Sandbox", call: generic.Call) -> Object:
    note = box.get("credit_note", call.ids["credit_note"])
    return page(box, _lines(box, note), call.params, call.path)
