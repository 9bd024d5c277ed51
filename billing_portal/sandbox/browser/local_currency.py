"""The choice between a payment's own currency and its customer's, on the pages that take payments."""

from starlette.requests import Request

from billing_portal.sandbox.browser import markup, money
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.resources import presentment
from billing_portal.sandbox.store import Object


def offer(sandbox: Sandbox, intent: Object) -> presentment.Offer | None:
    return presentment.offer(sandbox, sandbox.get("payment_intent", intent["id"]))


def price(sandbox: Sandbox, intent: Object) -> str:
    """Write what the payment costs in the currency chosen for it."""
    found = offer(sandbox, intent)
    amount, currency = (found.amount, found.chosen) if found else (intent["amount"], intent["currency"])
    return money.display(amount, currency)


def choice(sandbox: Sandbox, intent: Object, here: str) -> Html:
    """Offer both currencies, if there are two, and name the rate between them as what it is."""
    found = offer(sandbox, intent)
    if found is None:
        return Html("")
    buttons = [
        markup.fill(
            '<button name="currency" value="$currency" aria-pressed="$on">$amount</button>',
            currency=currency,
            on="true" if currency == found.chosen else "false",
            amount=money.display(amount, currency),
        )
        for currency, amount in found.amounts.items()
    ]
    own, local = intent["currency"].upper(), next(iter(found.amounts)).upper()
    return markup.render(
        "currencies.html",
        here=here,
        buttons=markup.join(buttons),
        rate=f"1 {own} = {float(found.rate):.6g} {local}",
    )


async def choose(request: Request, intent: Object) -> None:
    """Keep the choice; one that was not offered changes nothing."""
    wanted = str((await request.form()).get("currency", ""))
    try:
        request.app.state.sandbox.step(presentment.choose, intent["id"], wanted)
    except StripeError:
        return


def presented(obj: Object | None) -> str | None:
    """Write what the customer of a payment or refund paid in their own currency, if they did."""
    paid = (obj or {}).get("presentment_details")
    return money.display(paid["presentment_amount"], paid["presentment_currency"]) if paid else None
