"""The one account the sandbox is."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import as_list
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("account", "acct")

IDENTIFIER = "acct_sandbox00000001"
NAME = "Sandbox Voice AI"


def own(box: "Sandbox") -> Object:
    """The account, made on first use."""
    found = box.store.get("account", IDENTIFIER)
    if found:
        return found
    profile = box.schemas.neutral("account_business_profile") | {"name": NAME, "url": "https://example.com"}
    return box.create(
        "account",
        emit=False,
        id=IDENTIFIER,
        business_profile=profile,
        business_type="company",
        capabilities={"card_payments": "active", "link_payments": "active", "transfers": "active"},
        charges_enabled=True,
        controller={"type": "account"},
        country="US",
        default_currency="usd",
        details_submitted=True,
        email="owner@example.com",
        payouts_enabled=True,
        settings=_settings(box),
        type="standard",
    )


def _settings(box: "Sandbox") -> Object:
    settings: Object = box.schemas.blank({"$ref": "#/components/schemas/account_settings"})
    return settings | {
        "dashboard": {"display_name": NAME, "timezone": "Etc/UTC"},
        "payments": settings["payments"] | {"statement_descriptor": "SANDBOX VOICE AI"},
    }


@operation("GET", "/v1/account")
def retrieve_own(box: "Sandbox", call: generic.Call) -> Object:
    return own(box)


@operation("GET", "/v1/accounts/{account}")
def retrieve(box: "Sandbox", call: generic.Call) -> Object:
    if call.id != IDENTIFIER:
        raise StripeError(
            f"The provided key does not have access to account '{call.id}' (or that account does not exist).",
            status=403,
            code="account_invalid",
        )
    return own(box)


@operation("GET", "/v1/accounts")
def list_connected(box: "Sandbox", call: generic.Call) -> Object:
    """Connected accounts: there are none."""
    return as_list([], call.path)


@operation("GET", "/v1/balance")
def balance(box: "Sandbox", call: generic.Call) -> Object:
    totals: dict[str, int] = {}
    for entry in box.store.all("balance_transaction"):
        totals[entry["currency"]] = totals.get(entry["currency"], 0) + entry["net"]
    pending = [{"amount": amount, "currency": currency} for currency, amount in totals.items()]
    available = [{"amount": 0, "currency": currency} for currency in totals or ["usd"]]
    return box.schemas.neutral("balance") | {
        "available": available,
        "pending": pending or [{"amount": 0, "currency": "usd"}],
    }
