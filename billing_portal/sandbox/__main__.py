"""``python -m billing_portal.sandbox``: start the stand-in for Stripe."""

import argparse
import ipaddress
import logging
import os
import sys
from collections.abc import Sequence

import uvicorn

from . import app, control, specification
from .engine import Sandbox

DEFAULT_PORT = 12111


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until stopped."""
    options = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="sandbox: %(message)s")
    for name in ("STRIPE_SECRET_KEY", "STRIPE_LIVE_SECRET_KEY", "STRIPE_API_KEY"):
        if os.environ.get(name, "").startswith(("sk_live_", "rk_live_")):
            sys.exit(f"The sandbox refuses to start beside a live key: {name} holds one.")
    box = Sandbox(
        specification.load(),
        state=options.state,
        base_url=f"http://{_bracketed(options.host)}:{options.port}",
        strict=not options.lenient,
    )
    box.aggregation_seconds = options.aggregation_seconds
    if options.clock:
        start = control.parse_instant(options.clock)
        # Nothing happened yet in a new world, so its time may begin anywhere; an old one's only goes on.
        (box.clock.advance_to if box.events() else box.clock.start_at)(start)
        box.commit()
    if options.webhook:
        box.webhooks.add_endpoint(options.webhook, options.webhook_secret)
    uvicorn.run(app.build(box), host=options.host, port=options.port, log_level="warning", access_log=False)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandbox", description="A stand-in for Stripe, on this machine only.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}")
    parser.add_argument("--state", help="an SQLite file that keeps the state over a restart")
    parser.add_argument("--clock", help="start at this instant (ISO 8601); kept state only goes on from its own")
    parser.add_argument("--webhook", help="send every event to this URL")
    parser.add_argument("--webhook-secret", default="whsec_sandbox", help="what those are signed with")
    parser.add_argument("--lenient", action="store_true", help="do not validate answers against the specification")
    parser.add_argument("--aggregation-seconds", type=float, default=0.2, help="until a meter event counts")
    options = parser.parse_args(argv)
    if not _is_loopback(options.host):
        parser.error("the sandbox binds to loopback addresses only: whoever reaches it can do anything")
    return options


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    main()
