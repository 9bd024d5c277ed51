"""The hosted invoice: what is owed and for what, a way to pay it, its PDF; and the receipt of a charge."""

from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import invoice_pdf, local_currency, lookup, markup, money, pages
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.store import Object


def _opened(request: Request) -> Object | None:
    """Return the invoice whose own hosted address this is; knowing the address is the only key there is."""
    rest = request.path_params["rest"]
    invoice = lookup.find(request.app.state.sandbox, "invoice", rest.partition("/")[0])
    return invoice if invoice and urlsplit(invoice.get("hosted_invoice_url") or "").path == f"/i/{rest}" else None


def _no_invoice(request: Request) -> Response:
    return pages.message(request, "No such invoice", "This address opens no invoice. It may be a draft.")


async def _lines(sandbox: Sandbox, invoice: Object) -> list[Object]:
    """Return all lines; the list inside the invoice holds only the first ten."""
    found: list[Object] = []
    after: Object = {}
    while True:
        _, page = await sandbox.call("GET", f"/v1/invoices/{invoice['id']}/lines", {"limit": "100", **after})
        found += page.get("data", [])
        if not page.get("has_more"):
            return found
        after = {"starting_after": found[-1]["id"]}


async def _intent(sandbox: Sandbox, invoice: Object) -> Object | None:
    """Return the payment intent that settles the invoice, if it has one."""
    _, full = await sandbox.call(
        "GET", f"/v1/invoices/{invoice['id']}", {"expand": ["confirmation_secret", "payments"]}
    )
    secret = (full.get("confirmation_secret") or {}).get("client_secret")
    if secret:
        return lookup.intent(sandbox, secret)
    for payment in reversed((full.get("payments") or {}).get("data", [])):
        identifier = lookup.identifier_of(payment["payment"].get("payment_intent"))
        if identifier and payment["status"] != "canceled":
            return lookup.intent_by_id(sandbox, identifier)
    return None


# --- The page -------------------------------------------------------------------------------------------------


def totals(invoice: Object) -> list[tuple[str, int]]:
    """Return the sums below the lines, from subtotal to what is still due."""
    discount = sum(each["amount"] for each in invoice.get("total_discount_amounts") or [])
    credit = sum(each["amount"] for each in invoice.get("total_pretax_credit_amounts") or [])
    tax = sum(each["amount"] for each in invoice.get("total_taxes") or [])
    balance = (invoice.get("ending_balance") or 0) - (invoice.get("starting_balance") or 0)
    rows = [("Subtotal", invoice["subtotal"]), ("Discount", -discount), ("Credits", -(credit - discount))]
    rows = [*rows, ("Tax", tax), ("Total", invoice["total"]), ("Applied balance", -balance)]
    rows = [*rows, ("Amount paid", -(invoice.get("amount_paid") or 0)), ("Amount due", invoice["amount_remaining"])]
    always = {"Subtotal", "Total", "Amount due"}
    return [(name, amount) for name, amount in rows if amount or name in always]


def _line(line: Object) -> Html:
    period = line.get("period") or {}
    spans = period.get("start") and period["end"] - period["start"] >= 86_400
    when = f"{pages.day(period['start'])} – {pages.day(period['end'])}" if spans else ""
    return markup.fill(
        '<tr><td>$what<br><span class="hint">$when</span></td><td class="number right">$count</td>'
        '<td class="number right">$amount</td></tr>',
        what=line.get("description") or "Usage",
        when=when,
        count=line.get("quantity") if line.get("quantity") is not None else "",
        amount=money.display(line["amount"], line["currency"]),
    )


def _headline(invoice: Object) -> tuple[str, str]:
    paid_at = (invoice.get("status_transitions") or {}).get("paid_at")
    if invoice["status"] == "paid":
        return "Invoice paid", pages.day(paid_at)
    due = pages.day(invoice.get("due_date"))
    return f"Invoice {invoice.get('number') or 'draft'}", f"Due {due}" if due else ""


def _is_payable(invoice: Object) -> bool:
    return invoice["status"] in ("open", "uncollectible") and invoice["amount_remaining"] > 0


async def _payment(sandbox: Sandbox, invoice: Object, here: str) -> Html:
    """Offer the ways to pay: the bank's question if one is open, saved methods, a new one."""
    if not _is_payable(invoice):
        return Html("")
    intent = await _intent(sandbox, invoice)
    question, fresh, currencies = Html(""), Html(""), Html("")
    if intent and intent["status"] == "requires_action":
        question = markup.fill(
            '<p>Your bank wants you to confirm this payment.</p><a class="button primary wide" href="$address">'
            "Confirm with my bank</a>",
            address=_bank(intent, here),
        )
    if intent and intent["status"] not in ("succeeded", "canceled"):
        currencies = local_currency.choice(sandbox, intent, here)
        amount = local_currency.price(sandbox, intent)
        fresh = pages.payment_form(intent["client_secret"], f"Pay {amount}", done=here)
    saved = lookup.payment_methods(sandbox, lookup.identifier_of(invoice["customer"]))
    if saved and fresh:
        fresh = markup.fill("<h3>Or pay another way</h3>$form", form=fresh)
    parts = {"question": question, "currencies": currencies, "saved": _saved(saved, here), "fresh": fresh}
    return markup.render("invoice_payment.html", **parts)


def _bank(intent: Object, back: str) -> str:
    return f"/3ds/{intent['id']}?client_secret={quote(intent['client_secret'])}&back={quote(back)}"


def _saved(methods: list[Object], here: str) -> Html:
    if not methods:
        return Html("")
    rows = [
        markup.fill(
            '<label class="choice"><input type="radio" name="payment_method" value="$id" $on> $name</label>',
            id=method["id"],
            on="checked" if index == 0 else "",
            name=pages.method_name(method),
        )
        for index, method in enumerate(methods)
    ]
    return markup.fill(
        '<form method="post" action="$here/pay"><fieldset><legend>Saved payment methods</legend>$rows</fieldset>'
        '<button class="primary wide">Pay with this method</button></form>',
        here=here,
        rows=markup.join(rows),
    )


async def _show(request: Request, invoice: Object, *, failure: str | None = None, status: int = 200) -> Response:
    sandbox = request.app.state.sandbox
    here = urlsplit(invoice["hosted_invoice_url"]).path
    title, note = _headline(invoice)
    pays, intent = _is_payable(invoice), await _intent(sandbox, invoice)
    content = markup.render(
        "invoice.html",
        alert=pages.alert(failure),
        title=title,
        note=note,
        pill=pages.pill(invoice["status"]),
        amount=money.display(invoice["amount_remaining"] if pays else invoice["total"], invoice["currency"]),
        facts=pages.facts(_facts(invoice) | {"Paid as": local_currency.presented(intent)}),
        here=here,
        receipt=_receipt_link(sandbox, intent),
        payment=await _payment(sandbox, invoice, here),
        lines=markup.join(_line(line) for line in await _lines(sandbox, invoice)),
        totals=markup.join(pages.total(name, amount, invoice["currency"]) for name, amount in totals(invoice)),
    )
    scripts = pages.PAYMENT_SCRIPTS if pays else Html("")
    return pages.customer_page(request, title, content, scripts=scripts, status=status)


def _facts(invoice: Object) -> dict[str, object]:
    return {
        "Number": invoice.get("number"),
        "Billed to": invoice.get("customer_name") or invoice.get("customer_email"),
        "Issued": pages.day((invoice.get("status_transitions") or {}).get("finalized_at") or invoice["created"]),
        "Next attempt": pages.day(invoice.get("next_payment_attempt")),
        "Note": invoice.get("description"),
    }


def _receipt_link(sandbox: Sandbox, intent: Object | None) -> Html:
    charge = lookup.find(sandbox, "charge", lookup.identifier_of((intent or {}).get("latest_charge")) or "")
    url = (charge or {}).get("receipt_url")
    return markup.fill('<a class="button" href="$url">Receipt</a>', url=urlsplit(url).path) if url else Html("")


# --- Routes ---------------------------------------------------------------------------------------------------


async def show(request: Request) -> Response:
    invoice = _opened(request)
    return await _show(request, invoice) if invoice else _no_invoice(request)


async def pay(request: Request) -> Response:
    """Pay with a saved method of the invoice's own customer, who is here to answer the bank."""
    invoice, sandbox = _opened(request), request.app.state.sandbox
    intent = await _intent(sandbox, invoice) if invoice else None
    if not invoice or not intent:
        return _no_invoice(request)
    chosen = (await request.form()).get("payment_method")
    owned = [each["id"] for each in lookup.payment_methods(sandbox, lookup.identifier_of(invoice["customer"]))]
    if chosen not in owned:
        return await _show(request, invoice, failure="Choose one of the payment methods.", status=400)
    params = {"payment_method": chosen, "return_url": invoice["hosted_invoice_url"]}
    status, body = await sandbox.call("POST", f"/v1/payment_intents/{intent['id']}/confirm", params)
    if status != 200:
        return await _show(request, _opened(request) or invoice, failure=body["error"]["message"], status=status)
    here = urlsplit(invoice["hosted_invoice_url"]).path
    return RedirectResponse(_bank(body, here) if body["status"] == "requires_action" else here, status_code=303)


async def currency(request: Request) -> Response:
    invoice = _opened(request)
    intent = await _intent(request.app.state.sandbox, invoice) if invoice else None
    if not invoice or not intent:
        return _no_invoice(request)
    await local_currency.choose(request, intent)
    return RedirectResponse(urlsplit(invoice["hosted_invoice_url"]).path, status_code=303)


async def pdf(request: Request) -> Response:
    invoice, sandbox = _opened(request), request.app.state.sandbox
    if not invoice:
        return _no_invoice(request)
    lines = await _lines(sandbox, invoice)
    content = invoice_pdf.build(invoice, lines, totals(invoice), merchant=lookup.merchant(sandbox))
    name = f"Invoice-{invoice.get('number') or invoice['id']}.pdf"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, media_type="application/pdf", headers=headers)


routes = [
    Route("/i/{rest:path}/pay", pay, methods=["POST"]),
    Route("/i/{rest:path}/currency", currency, methods=["POST"]),
    Route("/i/{rest:path}/pdf", pdf),
    Route("/i/{rest:path}", show),
]
