"""Invoices: draft, open, then paid, void or uncollectible; numbered when finalised, never edited afterwards."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import job, operation, resource
from billing_portal.sandbox.rendering import as_list, render
from billing_portal.sandbox.store import Object

from . import collection, customers, invoice_items, lines, taxes, totals

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

DRAFT_SECONDS = 3600
LONGEST_WAIT = 72 * 3600
LINES_SHOWN = 10


def _present(box: "Sandbox", invoice: Object, shown: Object) -> None:
    """A draft counts usage and follows the customer's balance each time it is looked at."""
    if invoice["status"] == "draft":
        totals.compute(box, invoice)
        shown |= {name: value for name, value in invoice.items() if not name.startswith("_")}
    found = lines.of(box, invoice)
    shown["lines"] = as_list(
        [render(box, line) for line in found[:LINES_SHOWN]],
        f"/v1/invoices/{invoice['id']}/lines",
        has_more=len(found) > LINES_SHOWN,
    )
    shown.pop("payments", None)
    shown.pop("confirmation_secret", None)


def _payments(box: "Sandbox", invoice: Object) -> Object:
    found = box.store.where("invoice_payment", invoice=invoice["id"])
    return as_list([render(box, o) for o in found[::-1]], "/v1/invoice_payments")


def _confirmation_secret(box: "Sandbox", invoice: Object) -> Object | None:
    intent = box.store.get("payment_intent", invoice.get("_intent") or "")
    return {"client_secret": intent["client_secret"], "type": "payment_intent"} if intent else None


resource(
    "invoice",
    "in",
    "/v1/invoices",
    present=_present,
    includes={"payments": _payments, "confirmation_secret": _confirmation_secret},
    defaults={
        "automatic_tax": {
            "disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None,
        },
        "issuer": {"type": "self"},
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "status": "draft",
        "status_transitions": {
            "finalized_at": None, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None,
        },
        "total_discount_amounts": [],
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "customer_tax_ids": [],
    },
    filters={"subscription": lambda invoice, wanted: invoice.get("_subscription") == wanted},
)  # fmt: skip


def of_subscription(box: "Sandbox", subscription: Object) -> list[Object]:
    return [i for i in box.store.where("invoice", _subscription=subscription["id"]) if not i.get("_deleted")]


# Drafts


def draft(box: "Sandbox", customer: Object, currency: str, **fields: Any) -> Object:
    """A new invoice without lines; it is announced once they are on it."""
    account = box.account()
    now = box.time_of(customer)
    fields = {"automatic_tax": _automatic_tax(fields.pop("automatic_tax", None))} | fields
    return box.create(
        "invoice",
        emit=False,
        **{
            "account_country": account["country"],
            "account_name": account["business_profile"]["name"],
            "billing_reason": "manual",
            "collection_method": "charge_automatically",
            "created": now,
            "period_start": now,
            "period_end": now,
        }
        | fields
        | taxes.customer_fields(box, customer)
        | {"customer": customer["id"], "currency": currency, "test_clock": customer["test_clock"]},
    )


def _automatic_tax(given: dict[str, Any] | None) -> Object:
    enabled = bool((given or {}).get("enabled"))
    return {
        "disabled_reason": None,
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": "stripe" if enabled else None,
        "status": None,
    }


def announce(box: "Sandbox", invoice: Object) -> None:
    """Say that a draft exists, and have it finalised in an hour if it may advance by itself."""
    totals.compute(box, invoice)
    if invoice["auto_advance"]:
        box.change(invoice, automatically_finalizes_at=invoice["created"] + DRAFT_SECONDS)
    event = box.emit("invoice.created", invoice)
    box.change(invoice, _announced_by=event["id"])
    schedule(box, invoice)


def schedule(box: "Sandbox", invoice: Object) -> None:
    box.agenda.drop("invoice.finalize", invoice["id"])
    if invoice["status"] == "draft" and invoice["auto_advance"] and invoice["automatically_finalizes_at"]:
        box.schedule("invoice.finalize", invoice, invoice["automatically_finalizes_at"])


@operation("POST", "/v1/invoices")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    generic.check_references(box, "invoice", params)
    if "customer" not in params:
        raise invalid("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = box.get("customer", params["customer"], param="customer")
    taxed = params.pop("automatic_tax", None)
    fields = box.overlay("invoice", params)
    currency = params.get("currency") or customer["currency"] or "usd"
    parent = None
    if subscription := params.pop("subscription", None):
        parent = subscription_parent(box.get("subscription", subscription, param="subscription"))
        fields["_subscription"] = subscription
    if params.get("collection_method") == "send_invoice":
        fields["due_date"] = _due(box, customer, params)
    fields.setdefault("auto_advance", False)
    number = fields.pop("number", None)
    invoice = draft(
        box, customer, currency,
        **{k: v for k, v in fields.items() if k not in {"customer", "currency", "payment_settings"}},
        automatic_tax=taxed, parent=parent, _number=number,
    )  # fmt: skip
    if params.get("pending_invoice_items_behavior", "exclude") == "include":
        invoice_items.pull_in(box, invoice, params.get("subscription"))
    announce(box, invoice)
    return invoice


def _due(box: "Sandbox", customer: Object, params: dict[str, Any]) -> int:
    if "due_date" in params:
        return int(params["due_date"])
    if "days_until_due" not in params:
        raise invalid(
            "If invoice is set to `send_invoice`, one of `due_date` or `days_until_due` must be set.",
            param="days_until_due",
        )
    return int(box.time_of(customer) + params["days_until_due"] * 86400)


def subscription_parent(subscription: Object) -> Object:
    details = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
    return {"quote_details": None, "subscription_details": details, "type": "subscription_details"}


@operation("POST", "/v1/invoices/{invoice}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.id)
    params = {k: v for k, v in call.params.items() if k != "expand"}
    editable = {"metadata", "auto_advance", "default_payment_method", "payment_settings", "description", "footer"}
    if invoice["status"] != "draft" and set(params) - editable:
        name = sorted(set(params) - editable)[0]
        raise invalid(
            f"Finalized invoices can't be updated in this way: {name}", param=name, code="invoice_not_editable"
        )
    generic.check_references(box, "invoice", params)
    before = box.retrieve("invoice", invoice["id"])
    taxed = params.pop("automatic_tax", None)
    changes = box.overlay("invoice", params, invoice)
    if taxed is not None:
        changes["automatic_tax"] = _automatic_tax(taxed)
    box.change(invoice, **changes)
    if "auto_advance" in params:
        _advance_or_not(box, invoice)
    schedule(box, invoice)
    _tell_changes(box, invoice, before)
    return invoice


def _advance_or_not(box: "Sandbox", invoice: Object) -> None:
    if not invoice["auto_advance"]:
        stop_collecting(box, invoice)
    elif invoice["status"] == "draft":
        box.change(invoice, automatically_finalizes_at=box.time_of(invoice) + DRAFT_SECONDS)
    elif invoice["status"] == "open" and not box.agenda.due_at("invoice.collect", invoice["id"]):
        box.schedule("invoice.collect", invoice, box.time_of(invoice) + DRAFT_SECONDS)


def stop_collecting(box: "Sandbox", invoice: Object) -> None:
    """From now on nothing happens to the invoice by itself."""
    box.change(invoice, auto_advance=False, automatically_finalizes_at=None, next_payment_attempt=None)
    for name in ("invoice.finalize", "invoice.collect"):
        box.agenda.drop(name, invoice["id"])


def _tell_changes(box: "Sandbox", invoice: Object, before: Object) -> None:
    after = box.retrieve("invoice", invoice["id"])
    if previous := {name: value for name, value in before.items() if after.get(name) != value}:
        box.tell(invoice, "updated", previous)


@operation("DELETE", "/v1/invoices/{invoice}")
def delete(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.id)
    if invoice["status"] != "draft" or invoice.get("_subscription"):
        raise invalid("You can only delete draft invoices that no subscription made.", code="invoice_not_editable")
    stop_collecting(box, invoice)
    invoice_items.drop_all(box, invoice)
    generic.remove(box, invoice)
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


# From draft to open


@job("invoice.finalize")
def finalize_when_due(box: "Sandbox", key: str) -> None:
    """The hour is over. An ``invoice.created`` that no endpoint acknowledged puts it off, for three days at most."""
    invoice = box.get("invoice", key)
    if invoice["status"] != "draft" or not invoice["auto_advance"]:
        return
    if box.store.tables["customer"][invoice["customer"]].get("_deleted"):
        stop_collecting(box, invoice)
        return
    now = box.time_of(invoice)
    if now < invoice["created"] + LONGEST_WAIT and (later := _put_off(box, invoice, now)):
        box.change(invoice, automatically_finalizes_at=later)
        box.schedule("invoice.finalize", invoice, later)
        return
    taxes.drop_if_unlocated(box, invoice)
    finalize(box, invoice)
    if invoice["status"] == "open":
        collection.start(box, invoice)


def _put_off(box: "Sandbox", invoice: Object, now: int) -> int | None:
    """When to try again: an hour after the acknowledgement, or in an hour if there is none yet."""
    event = box.store.get("event", invoice["_announced_by"])
    if not event:
        return None
    latest = invoice["created"] + LONGEST_WAIT
    if not box.webhooks.acknowledged(event["id"]):
        return int(min(now + DRAFT_SECONDS, latest))
    ready = event.get("_acknowledged_at", 0) + DRAFT_SECONDS
    return int(min(ready, latest)) if now < ready else None


@operation("POST", "/v1/invoices/{invoice}/finalize")
def finalize_now(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    if invoice["status"] != "draft":
        raise invalid(
            f"This invoice is already finalized, you can't re-finalize a non-draft invoice ({invoice['status']}).",
            code="invoice_not_editable",
        )
    if "auto_advance" in call.params:
        box.change(invoice, auto_advance=call.params["auto_advance"])
    taxes.require_location(box, invoice)
    finalize(box, invoice)
    if invoice["status"] == "open" and invoice["auto_advance"]:
        if invoice["collection_method"] == "charge_automatically":
            due = box.time_of(invoice) + DRAFT_SECONDS
            box.change(invoice, next_payment_attempt=due)
            box.schedule("invoice.collect", invoice, due)
        else:
            collection.start(box, invoice)
    return invoice


def finalize(box: "Sandbox", invoice: Object) -> None:
    """Number the invoice, settle it with the customer's balance, and open it for payment.

    Totals under the currency's minimum, and negative ones, go to the balance and leave nothing to pay.
    """
    customer = box.get("customer", invoice["customer"])
    totals.apply_credits(box, invoice)
    totals.compute(box, invoice)
    number(box, invoice, customer, ending_balance=_use_balance(box, invoice, customer))
    if invoice["amount_due"] > 0:
        collection.open_payment(box, invoice)
    box.tell(invoice, "finalized")
    if invoice["amount_due"] == 0:
        collection.mark_paid(box, invoice)


def number(box: "Sandbox", invoice: Object, customer: Object, *, ending_balance: int) -> None:
    """Give a draft its number and its addresses: from now on it is an open invoice."""
    now, sequence = box.time_of(invoice), customer["next_invoice_sequence"]
    box.change(customer, next_invoice_sequence=sequence + 1)
    box.change(
        invoice,
        number=invoice.get("_number") or f"{customer['invoice_prefix']}-{sequence:04d}",
        status="open",
        ending_balance=ending_balance,
        effective_at=invoice["effective_at"] or now,
        automatically_finalizes_at=None,
        hosted_invoice_url=f"{box.base_url}/i/{invoice['id']}",
        invoice_pdf=f"{box.base_url}/i/{invoice['id']}/pdf",
        status_transitions=invoice["status_transitions"] | {"finalized_at": now},
        webhooks_delivered_at=now,
    )
    box.agenda.drop("invoice.finalize", invoice["id"])


def _use_balance(box: "Sandbox", invoice: Object, customer: Object) -> int:
    """Settle the invoice with the customer's balance; return what is on that afterwards."""
    settlement = totals.settle(invoice["total"], customer["balance"], invoice["currency"])
    kind = "invoice_too_small" if settlement.too_small else "applied_to_invoice"
    moved = settlement.ending_balance - customer["balance"]
    customers.move_balance(box, customer, moved, invoice["currency"], kind, tell=True, invoice=invoice["id"])
    return settlement.ending_balance


# Ends


@operation("POST", "/v1/invoices/{invoice}/pay")
def pay(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    if invoice["status"] == "draft":
        taxes.require_location(box, invoice)
        finalize(box, invoice)
    elif invoice["status"] not in {"open", "uncollectible"}:
        raise invalid(f"Invoice is already {invoice['status']}", code="invoice_not_editable")
    if invoice["status"] != "paid":
        collection.pay(box, invoice, call.params)
    return invoice


@operation("POST", "/v1/invoices/{invoice}/void")
def void(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    if invoice["status"] not in {"open", "uncollectible"}:
        raise invalid(
            f"You can only pass in open or uncollectible invoices. This invoice is {invoice['status']}.",
            code="invoice_not_editable",
        )
    collection.close(box, invoice, "void_invoice")
    _return_balance(box, invoice)
    transitions = invoice["status_transitions"] | {"voided_at": box.time_of(invoice)}
    box.change(invoice, status="void", status_transitions=transitions)
    stop_collecting(box, invoice)
    box.tell(invoice, "voided")
    return invoice


def _return_balance(box: "Sandbox", invoice: Object) -> None:
    used = invoice["starting_balance"] - (invoice["ending_balance"] or 0)
    customer = box.get("customer", invoice["customer"])
    customers.move_balance(
        box, customer, used, invoice["currency"], "unapplied_from_invoice", tell=True, invoice=invoice["id"]
    )


@operation("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    if invoice["status"] != "open":
        raise invalid(
            f"You can only mark open invoices as uncollectible. This invoice is {invoice['status']}.",
            code="invoice_not_editable",
        )
    transitions = invoice["status_transitions"] | {"marked_uncollectible_at": box.time_of(invoice)}
    box.change(invoice, status="uncollectible", status_transitions=transitions)
    stop_collecting(box, invoice)
    box.tell(invoice, "marked_uncollectible")
    return invoice


@operation("POST", "/v1/invoices/{invoice}/send")
def send(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    if invoice["status"] == "draft":
        finalize(box, invoice)
    box.tell(invoice, "sent")
    return invoice
