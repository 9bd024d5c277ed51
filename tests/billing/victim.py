"""A process that is killed at named places, again and again: `python -m tests.billing.victim`.

Django is loaded once. For each line on standard input, {"verb", "id", "now", "place"}, a fork does the verb until it
comes to the place, writes that it is there, and is killed by a real SIGKILL. The answer says how it ended.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import django

django.setup()

from billing_portal.billing import intents, purchase_payment, purchases, top_ups  # noqa: E402
from billing_portal.billing.models import Purchase  # noqa: E402
from billing_portal.ledger import credits  # noqa: E402


def die(pipe: int) -> None:
    os.write(pipe, b"reached")
    os.kill(os.getpid(), signal.SIGKILL)


def set_trap(place: str, pipe: int) -> None:
    """Patch what stands at the place, so that whoever comes there dies before it, or after it is done."""
    when, _, what = place.partition(" ")
    step, _, where = what.partition(" ")
    if step.startswith(":"):
        module, name, is_there = intents, where, lambda *a, **k: _reference(a).endswith(step)
    else:
        modules = {"credit": purchases, "ask_for_top_up": purchases, "decline": purchases, "grant": credits}
        module, name, is_there = modules.get(step, purchase_payment), step, lambda *a, **k: True
    original: Callable[..., Any] = getattr(module, name)

    def trapped(*arguments: Any, **options: Any) -> Any:
        is_here = is_there(*arguments, **options)
        if is_here and when == "before":
            die(pipe)
        result = original(*arguments, **options)
        if is_here and when == "after":
            die(pipe)
        return result

    setattr(module, name, trapped)


def _reference(arguments: tuple[Any, ...]) -> str:
    """Return the reference of an intent: `_record` is given it third, `_send` and `_done` have the intent."""
    return str(arguments[2]) if isinstance(arguments[2], str) else str(arguments[0].reference)


def do(verb: str, subject: int, now: datetime) -> None:
    if verb == "top up":
        purchase = top_ups.check(subject, now=now)
    else:
        purchase = Purchase.objects.select_related("organization").get(pk=subject)
    if purchase is not None:
        purchase_payment.advance(purchase, now=now)


def run(order: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        set_trap(order["place"], writing)
        do(order["verb"], order["id"], datetime.fromisoformat(order["now"]))
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 100)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return {"reached": said == b"reached", "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()
