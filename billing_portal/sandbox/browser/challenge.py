"""The page a bank shows to ask its customer whether the payment is theirs.

stripe.js opens it in a modal; a customer without JavaScript, or one sent here by `next_action.redirect_to_url`, sees
it as a page of its own and is sent back to the intent's `return_url`.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import lookup, markup, money, responses
from billing_portal.sandbox.resources import authentication
from billing_portal.sandbox.store import Object


def _opened_intent(request: Request) -> Object | None:
    """Return the intent named in the path if the secret in the query opens it."""
    intent = lookup.intent(request.app.state.sandbox, request.query_params.get("client_secret", ""))
    return intent if intent and intent["id"] == request.path_params["intent"] else None


def _gone() -> Response:
    content = markup.render("message.html", title="Nothing to confirm", text="This request is no longer open.")
    return responses.page(content, status=404, framed=True)


def challenge(request: Request) -> Response:
    intent = _opened_intent(request)
    if intent is None or intent["status"] != "requires_action":
        return _gone()
    pays = intent["object"] == "payment_intent"
    action = {"client_secret": intent["client_secret"], "back": request.query_params.get("back", "")}
    content = markup.render(
        "challenge.html",
        purpose="Your bank wants to know whether this payment is yours."
        if pays
        else "Your bank wants to know whether you are saving this card.",
        merchant=lookup.merchant(request.app.state.sandbox),
        amount=money.display(intent["amount"], intent["currency"]) if pays else "None: the card is only saved",
        intent=intent["id"],
        action=f"/3ds/{intent['id']}?{urlencode(action)}",
    )
    return responses.page(content, framed=True, leaves=True)


def return_address(url: str, intent: Object, *, succeeded: bool) -> str:
    """Add to a return URL what Stripe adds: the intent, its secret, and how the redirect ended."""
    name, parts = intent["object"], urlsplit(url)
    added = {
        name: intent["id"],
        f"{name}_client_secret": intent["client_secret"],
        "redirect_status": "succeeded" if succeeded else "failed",
    }
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *added.items()])
    return urlunsplit(parts._replace(query=query))


def _way_back(request: Request, intent: Object, *, succeeded: bool) -> str | None:
    """Return where the customer came from: one of our own pages, or the address the intent was confirmed with."""
    own = request.query_params.get("back", "")
    if own.startswith("/") and not own.startswith(("//", "/\\")):
        return own
    url = ((intent.get("next_action") or {}).get("redirect_to_url") or {}).get("return_url")
    return return_address(url, intent, succeeded=succeeded) if url else None


async def answer(request: Request) -> Response:
    intent = _opened_intent(request)
    if intent is None or intent["status"] != "requires_action":
        return _gone()
    form = await request.form()
    succeeded = form.get("outcome") == "succeeded"
    request.app.state.sandbox.step(authentication.finish, intent["id"], succeeded)
    back = _way_back(request, intent, succeeded=succeeded)
    if back and not form.get("framed"):
        return RedirectResponse(back, status_code=303)
    text = "Thank you. You can close this window." if succeeded else "The bank was told that this was not you."
    return responses.page(markup.render("message.html", title="Answered", text=text), framed=True)


routes = [
    Route("/3ds/{intent}", challenge, methods=["GET"]),
    Route("/3ds/{intent}", answer, methods=["POST"]),
]
