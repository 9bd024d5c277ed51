"""The receipt of a charge."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billing_portal.sandbox.browser import local_currency, markup, money, pages


def show(request: Request) -> Response:
    """Show the charge whose own receipt address this is."""
    charges = request.app.state.sandbox.objects("charge")
    path = request.url.path
    charge = next((each for each in charges if urlsplit(each.get("receipt_url") or "").path == path), None)
    if charge is None:
        return pages.message(request, "No such receipt", "This address opens no receipt.")
    refunded = charge["amount_refunded"]
    card = (charge.get("payment_method_details") or {}).get("card") or {}
    facts = {
        "Receipt": charge.get("receipt_number") or charge["id"],
        "Date": pages.day(charge["created"]),
        "Paid with": f"{card['brand'].title()} •••• {card['last4']}" if card.get("last4") else None,
        "Paid as": local_currency.presented(charge),
        "Refunded": money.display(refunded, charge["currency"]) if refunded else None,
        "For": charge.get("description"),
        "On your statement": charge.get("calculated_statement_descriptor"),
    }
    content = markup.fill(
        '<section class="card"><div class="spread"><h1>Receipt</h1>$pill</div><p class="amount number">$amount</p>'
        "$facts</section>",
        pill=pages.pill("refunded" if charge["refunded"] else charge["status"]),
        amount=money.display(charge["amount"], charge["currency"]),
        facts=pages.facts(facts),
    )
    return pages.customer_page(request, "Receipt", content)


routes = [Route("/receipts/{path:path}", show)]
