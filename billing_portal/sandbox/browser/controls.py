"""The inspector's forms: move the clock, make things go wrong, start over.

They do what the JSON endpoints under `/_sandbox/` do, for people instead of programs.
"""

import calendar
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from billing_portal.sandbox.browser import markup, pages
from billing_portal.sandbox.browser.markup import Html
from billing_portal.sandbox.faults import DECLINE_CODES
from billing_portal.sandbox.store import Object

_STEPS = {"hour": "+1 hour", "day": "+1 day", "week": "+1 week", "month": "+1 month"}
_NUMBERS = {"count": int, "status": int, "seconds": float, "drop_next": int, "delay_seconds": float}


def _back(path: str, text: str) -> Response:
    return RedirectResponse(f"{path}?done={quote(text)}", status_code=303)


# --- The clock ------------------------------------------------------------------------------------------------


def clock_buttons() -> Html:
    button = '<button name="step" value="$step" $look>$label</button>'
    return markup.join(
        markup.fill(button, step=step, label=label, look=Html('class="primary"' if step == "month" else ""))
        for step, label in _STEPS.items()
    )


def later(now: float, step: str) -> float:
    """Return the instant one step on; a month keeps the day where the next month has it."""
    instant = datetime.fromtimestamp(now, UTC)
    if step == "month":
        year, month = instant.year + instant.month // 12, instant.month % 12 + 1
        last = calendar.monthrange(year, month)[1]
        return instant.replace(year=year, month=month, day=min(instant.day, last)).timestamp()
    return (instant + timedelta(**{f"{step}s": 1})).timestamp()


async def advance(request: Request) -> Response:
    step = (await request.form()).get("step")
    if step not in _STEPS:
        return _back("/_sandbox/", "No such step.")
    sandbox = request.app.state.sandbox
    result = await request.app.state.timekeeper.advance(later(sandbox.clock.exact(), step))
    done = "; ".join([f"{count} × {name.replace('_', ' ')}" for name, count in result["jobs"].items()])
    failed = "".join(f" Failed: {failure}." for failure in result["failures"])
    return _back("/_sandbox/", f"The clock moved on by 1 {step}. {done or 'Nothing fell due'}.{failed}")


# --- Faults ---------------------------------------------------------------------------------------------------


def _left(fault: Object) -> str:
    details = ", ".join(str(value) for name, value in fault.items() if name != "count" and value)
    return f"{fault['count']} ({details})" if fault.get("count") else "none"


def show_faults(request: Request) -> Response:
    faults = request.app.state.sandbox.faults.describe()
    done = request.query_params.get("done")
    webhooks = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in faults["webhooks"].items() if value)
    content = markup.render(
        "faults.html",
        notice=markup.fill('<p class="notice" role="status">$text</p>', text=done) if done else Html(""),
        codes=markup.join(markup.fill("<option>$code</option>", code=code) for code in sorted(DECLINE_CODES)),
        decline_left=_left(faults["decline_next"]),
        fail_left=_left(faults["fail_next"]),
        timeout_left=_left(faults["timeout_next"]),
        webhooks_now=webhooks or "delivered as they should be",
    )
    return pages.workshop_page(request, "Faults", content)


def _number(name: str, text: str) -> float | str:
    kind = _NUMBERS.get(name)
    return kind(text or 0) if kind else text


async def set_fault(request: Request) -> Response:
    form = dict(await request.form())
    fault = str(form.pop("fault", ""))
    try:
        wanted = {name: _number(name, str(value)) for name, value in form.items() if value != ""}
    except ValueError:
        return _back("/_sandbox/faults/", "That is not a number.")
    for name in ("duplicate", "reorder"):
        if name in wanted:
            wanted[name] = True
    request.app.state.sandbox.faults.set({fault: wanted if wanted.get("count", 1) else {}})
    return _back("/_sandbox/faults/", "Set.")


# --- Starting over --------------------------------------------------------------------------------------------


def confirm_reset(request: Request) -> Response:
    sandbox = request.app.state.sandbox
    count = sum(len(sandbox.store.all(kind)) for kind in sandbox.kinds())
    return pages.workshop_page(request, "Reset", markup.render("reset.html", count=f"{count:,}"))


def reset(request: Request) -> Response:
    request.app.state.sandbox.reset()
    return _back("/_sandbox/", "Everything is forgotten.")


routes = [
    Route("/_sandbox/faults/", show_faults),
    Route("/_sandbox/reset/", confirm_reset),
    Route("/_sandbox/do/clock", advance, methods=["POST"]),
    Route("/_sandbox/do/faults", set_fault, methods=["POST"]),
    Route("/_sandbox/do/reset", reset, methods=["POST"]),
]
