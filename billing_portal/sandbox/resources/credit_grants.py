"""Stripe's billing credits: applied when an invoice is finalised, and only to metered subscription lines."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import HOOKS, operation, resource
from billing_portal.sandbox.rendering import page
from billing_portal.sandbox.store import Object

from . import lines

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

GRANT, ENTRY = "billing.credit_grant", "billing.credit_balance_transaction"
resource(GRANT, "credgr", "/v1/billing/credit_grants", defaults={"priority": 50})
resource(ENTRY, "cbtxn", "/v1/billing/credit_balance_transactions")
NEVER = 2**62


@operation("POST", "/v1/billing/credit_grants")
def create(box: "Sandbox", call: generic.Call) -> Object:
    generic.check_references(box, GRANT, call.params)
    if "customer" not in call.params:
        raise invalid("Missing required param: customer.", param="customer", code="parameter_missing")
    fields = box.overlay(GRANT, call.params)
    fields.setdefault("category", "promotional")
    customer = box.get("customer", fields["customer"])
    now = box.time_of(customer)
    fields.setdefault("effective_at", now)
    grant = box.create(GRANT, **fields, updated=now, test_clock=customer["test_clock"])
    credit = {"amount": grant["amount"], "credits_application_invoice_voided": None, "type": "credits_granted"}
    _enter(box, grant, "credit", credit)
    return grant


def _enter(box: "Sandbox", grant: Object, kind: str, details: Object) -> Object:
    now = box.time_of(grant)
    fields: Object = {kind: details}
    return box.create(
        ENTRY,
        **fields,
        credit_grant=grant["id"],
        effective_at=max(now, grant["effective_at"] or now),
        type=kind,
        _customer=grant["customer"],
        _grant=grant["id"],
    )


def _amount(currency: str, value: int) -> Object:
    return {"monetary": {"currency": currency, "value": value}, "type": "monetary"}


def remaining(box: "Sandbox", grant: Object) -> int:
    total = 0
    for entry in box.store.where(ENTRY, _grant=grant["id"]):
        sign = 1 if entry["type"] == "credit" else -1
        total += sign * entry[entry["type"]]["amount"]["monetary"]["value"]
    return total


def _is_usable(box: "Sandbox", grant: Object, now: int) -> bool:
    return grant["voided_at"] is None and grant["effective_at"] <= now < (grant["expires_at"] or NEVER)


def in_order(box: "Sandbox", customer: str, currency: str, now: int) -> list[Object]:
    """Stripe's order: priority, soonest expiry, promotional first, effective date, age."""
    found = [
        grant
        for grant in box.store.where(GRANT, customer=customer)
        if _is_usable(box, grant, now) and grant["amount"]["monetary"]["currency"] == currency
    ]
    return sorted(
        found,
        key=lambda g: (
            g["priority"], g["expires_at"] or NEVER, g["category"] != "promotional", g["effective_at"], g["created"],
        ),
    )  # fmt: skip


def apply(box: "Sandbox", invoice: Object) -> None:
    """Use up grants on the invoice's metered lines."""
    now = box.time_of(invoice)
    totals: list[Object] = []
    for grant in in_order(box, invoice["customer"], invoice["currency"], now):
        left = remaining(box, grant)
        for line in lines.of(box, invoice):
            used = min(left, _open_amount(line)) if _covers(grant, line) else 0
            if used > 0:
                totals.append(_use(box, grant, invoice, line, used))
                left -= used
    if totals:
        box.change(invoice, total_pretax_credit_amounts=totals)


HOOKS["apply_credits"].append(apply)


def _open_amount(line: Object) -> int:
    return int(line["amount"] - sum(credit["amount"] for credit in line["pretax_credit_amounts"] or ()))


def _covers(grant: Object, line: Object) -> bool:
    scope = grant["applicability_config"]["scope"]
    named = [price["id"] for price in scope.get("prices") or ()]
    return bool(line.get("_meter")) and (not named or line["_price"] in named)


def _use(box: "Sandbox", grant: Object, invoice: Object, line: Object, used: int) -> Object:
    applied = {"invoice": invoice["id"], "invoice_line_item": line["id"]}
    amount = _amount(invoice["currency"], used)
    debit = {"amount": amount, "credits_applied": applied, "type": "credits_applied"}
    entry = _enter(box, grant, "debit", debit)
    credit = {"amount": used, "credit_balance_transaction": entry["id"], "type": "credit_balance_transaction"}
    box.change(line, pretax_credit_amounts=[*(line["pretax_credit_amounts"] or ()), credit])
    return credit


@operation("POST", "/v1/billing/credit_grants/{id}/void")
def void(box: "Sandbox", call: generic.Call) -> Object:
    return _end(box, call.ids["id"], "voided_at", "credits_voided")


@operation("POST", "/v1/billing/credit_grants/{id}/expire")
def expire(box: "Sandbox", call: generic.Call) -> Object:
    return _end(box, call.ids["id"], "expires_at", "credits_expired")


def _end(box: "Sandbox", key: str, field: str, kind: str) -> Object:
    grant = box.get(GRANT, key)
    left = remaining(box, grant)
    currency = grant["amount"]["monetary"]["currency"]
    if left:
        _enter(box, grant, "debit", {"amount": _amount(currency, left), "credits_applied": None, "type": kind})
    now = box.time_of(grant)
    box.change(grant, tell=True, **{field: now}, updated=now)
    return grant


@operation("GET", "/v1/billing/credit_balance_transactions")
def list_entries(box: "Sandbox", call: generic.Call) -> Object:
    customer = call.params.get("customer")
    found = box.store.where(ENTRY, _customer=customer) if customer else box.store.all(ENTRY)
    if grant := call.params.get("credit_grant"):
        found = [entry for entry in found if entry["_grant"] == grant]
    return page(box, found[::-1], call.params, call.path)


@operation("GET", "/v1/billing/credit_balance_summary")
def summary(box: "Sandbox", call: generic.Call) -> Object:
    customer = box.get("customer", call.params.get("customer"), param="customer")
    now = box.time_of(customer)
    wanted = call.params["filter"].get("credit_grant")
    sums: dict[str, int] = {}
    for grant in box.store.where(GRANT, customer=customer["id"]):
        if _is_usable(box, grant, now) and wanted in {None, grant["id"]}:
            currency = grant["amount"]["monetary"]["currency"]
            sums[currency] = sums.get(currency, 0) + remaining(box, grant)
    balances = [
        {"available_balance": _amount(c, total), "ledger_balance": _amount(c, total)} for c, total in sums.items()
    ]
    return box.schemas.neutral("billing.credit_balance_summary") | {
        "customer": customer["id"],
        "balances": balances or [{"available_balance": _amount("usd", 0), "ledger_balance": _amount("usd", 0)}],
    }
