"""The developer's view of the sandbox: its clock, objects and events, and what is made to go wrong."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billing_portal.sandbox.browser import controls, json_view, lookup, markup, money, pages
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.store import Object

_ROWS = 100
_RELATED = 12


# --- Overview -------------------------------------------------------------------------------------------------


def overview(request: Request) -> Response:
    sandbox = request.app.state.sandbox
    done = request.query_params.get("done")
    content = markup.render(
        "inspector.html",
        notice=markup.fill('<p class="notice" role="status">$text</p>', text=done) if done else Html(""),
        now=pages.instant(sandbox.now()),
        steps=controls.clock_buttons(),
        kinds=markup.join(_kind(kind, len(sandbox.store.all(kind))) for kind in sorted(sandbox.kinds())),
        events=events_table(sandbox, sandbox.store.all("event")[-12:]),
        base=sandbox.base_url,
    )
    return pages.workshop_page(request, "Overview", content)


def _kind(kind: str, count: int) -> Html:
    item = '<li><a href="/_sandbox/objects/$kind">$name</a> <span class="number hint">$count</span></li>'
    return markup.fill(item, kind=kind, name=kind, count=f"{count:,}")


# --- Objects --------------------------------------------------------------------------------------------------


def summary(each: Object) -> str:
    """Say in a few words what an object is: its name, its amount, whatever it has of those."""
    for name in ("amount", "total", "unit_amount", "amount_total"):
        if isinstance(each.get(name), int) and each.get("currency"):
            return money.display(each[name], each["currency"])
    if each["object"] == "payment_method":
        return pages.method_name(each)
    named = (each.get(name) for name in ("name", "email", "display_name", "event_name", "description", "url", "type"))
    return next((text for text in named if isinstance(text, str) and text), "")


def _row(sandbox: Sandbox, each: Object) -> Html:
    key = each.get("id") or each["_key"]
    status = each.get("status")
    return markup.fill(
        '<tr><td><a class="mono" href="$url">$id</a></td><td>$summary</td><td>$status</td><td>$owner</td>'
        '<td class="number right">$created</td></tr>',
        url=json_view.address(each["_kind"], quote(key)),
        id=key,
        summary=summary(each),
        status=pages.pill(status) if isinstance(status, str) else Html(""),
        owner=_owner(sandbox, each),
        created=pages.instant(each.get("created")),
    )


def _owner(sandbox: Sandbox, each: Object) -> Html:
    owner = lookup.identifier_of(each.get("customer"))
    return json_view.link(sandbox, owner) if owner else Html("")


def list_objects(request: Request) -> Response:
    sandbox, kind = request.app.state.sandbox, request.path_params["kind"]
    found = sandbox.store.all(kind)[::-1]
    start = max(0, int(request.query_params.get("from", "0") or 0)) if _is_number(request) else 0
    shown, rest = found[start : start + _ROWS], len(found) - start - _ROWS
    more = '<p><a class="button" href="?from=$start">Older ($rest)</a></p>'
    content = markup.render(
        "objects.html",
        kind=kind,
        count=f"{len(found):,}",
        rows=markup.join(_row(sandbox, each) for each in shown) or Html('<tr><td colspan="5">None yet.</td></tr>'),
        more=markup.fill(more, start=start + _ROWS, rest=rest) if rest > 0 else Html(""),
    )
    return pages.workshop_page(request, kind, content)


def _is_number(request: Request) -> bool:
    return request.query_params.get("from", "").isdigit()


def show_object(request: Request) -> Response:
    sandbox, kind, key = request.app.state.sandbox, request.path_params["kind"], request.path_params["key"]
    if sandbox.store.get(kind, key) is None:
        return pages.workshop_page(
            request, "Not found", Html('<section class="card"><h1>No such object</h1></section>'), status=404
        )
    shown = sandbox.retrieve(kind, key)
    status = shown.get("status")
    content = markup.render(
        "object.html",
        kind=kind,
        id=key,
        pill=pages.pill(status) if isinstance(status, str) else Html(""),
        summary=summary(shown),
        json=json_view.show(sandbox, shown),
        related=_related(sandbox, key),
        deliveries=_deliveries(sandbox, key) if kind == "event" else Html(""),
    )
    return pages.workshop_page(request, key, content)


def _mentions(each: Object, identifier: str) -> bool:
    if each["_kind"] == "event":
        return bool(each["data"]["object"].get("id") == identifier)
    return any(value == identifier for name, value in each.items() if name not in ("id", "_key"))


def _related(sandbox: Sandbox, identifier: str) -> Html:
    """List the objects that name this one, by kind, the newest first."""
    groups = []
    for kind in sorted(sandbox.kinds()):
        found = [each for each in reversed(sandbox.store.all(kind)) if _mentions(each, identifier)]
        if found:
            items = markup.join(_related_item(each) for each in found[:_RELATED])
            more = f"and {len(found) - _RELATED:,} more" if len(found) > _RELATED else ""
            group = '<h3>$kind</h3><ul class="bare">$items</ul><p class="hint flush">$more</p>'
            groups.append(markup.fill(group, kind=kind, items=items, more=more))
    return markup.join(groups) or Html('<p class="hint">Nothing names this object.</p>')


def _related_item(each: Object) -> Html:
    item = '<li><a class="mono" href="$url">$id</a> <span class="hint">$note</span></li>'
    key = each["_key"]
    return markup.fill(item, url=json_view.address(each["_kind"], quote(key)), id=key, note=summary(each))


# --- Events ---------------------------------------------------------------------------------------------------


def _pending(sandbox: Sandbox) -> dict[str, list[Object]]:
    pending: dict[str, list[Object]] = {}
    for each in sandbox.webhooks.describe_pending():
        pending.setdefault(each["event"], []).append(each)
    return pending


def _delivery_note(event: Object, pending: list[Object]) -> Html:
    if not pending:
        return pages.pill("delivered" if event.get("_acknowledged_at") else "not sent")
    attempts = max(each["attempts"] for each in pending)
    return markup.join([pages.pill("pending"), markup.fill(' <span class="hint">$n tries</span>', n=attempts)])


def events_table(sandbox: Sandbox, events: list[Object]) -> Html:
    pending = _pending(sandbox)
    rows = [_event(sandbox, event, pending.get(event["id"], [])) for event in reversed(events)]
    empty = Html('<tr><td colspan="4">Nothing has happened yet.</td></tr>')
    return markup.render("events_table.html", rows=markup.join(rows) or empty)


def _event(sandbox: Sandbox, event: Object, pending: list[Object]) -> Html:
    about = event["data"]["object"].get("id") or ""
    known = sandbox.store.kind_of.get(about)
    return markup.fill(
        '<tr><td class="number">$when</td><td><a href="$url">$type</a></td><td class="mono">$about</td>'
        "<td>$note</td></tr>",
        when=pages.instant(event["created"]),
        url=json_view.address("event", event["id"]),
        type=event["type"],
        about=json_view.link(sandbox, about) if known else about,
        note=_delivery_note(event, pending),
    )


def _deliveries(sandbox: Sandbox, identifier: str) -> Html:
    pending = _pending(sandbox).get(identifier, [])
    item = "<li>$url: $attempts tries so far. $error</li>"
    items = [markup.fill(item, url=each["url"], attempts=each["attempts"], error=each["error"]) for each in pending]
    text = markup.join(items) or Html("<li>Nothing is left to deliver.</li>")
    return markup.fill('<section class="card"><h2>Deliveries</h2><ul class="bare">$items</ul></section>', items=text)


def list_events(request: Request) -> Response:
    sandbox = request.app.state.sandbox
    wanted = request.query_params.get("type", "")
    found = [each for each in sandbox.store.all("event") if wanted in each["type"]]
    table = events_table(sandbox, found[-_ROWS * 2 :])
    content = markup.render("events.html", wanted=wanted, count=f"{len(found):,}", table=table)
    return pages.workshop_page(request, "Events", content)


routes = [
    Route("/_sandbox/", overview),
    Route("/_sandbox/objects/{kind}", list_objects),
    Route("/_sandbox/objects/{kind}/{key:path}", show_object),
    Route("/_sandbox/events", list_events),
    *controls.routes,
]
