"""Seconds to rate a month of the largest organization anew under another choice, beside adding its charges up."""

import argparse
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from django.db import connection

from billing_portal.local.bench import Figure, at_most, load, rows
from usage import changes, prices
from usage.changes import Span
from usage.models import PriceVersion
from usage.what_if import rerating
from usage.what_if.choices import Choice

_CHOICES = {
    "another model": Choice(llm="gpt_5"),
    "another model, voice and telephony": Choice(llm="gpt_5", voice="openai_tts", telephony="retell_twilio"),
}
_CHARGED = """
    SELECT c.mix_id, count(*), sum(c.amount_micros)
    FROM usage_callrange r
    JOIN usage_call c ON c.organization_id = r.organization_id
     AND c.started_at BETWEEN r.starts_at AND r.ends_at AND c.id BETWEEN r.first_id AND r.last_id
    WHERE r.organization_id = %s AND r.billed_month = %s GROUP BY 1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_500_000, help="of one organization (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield seconds, the yardstick being the sum of the same calls' charges by mix."""
    [organization] = load.organizations(1)
    rows.hold([organization], options.calls)
    rows.roll_up([organization])
    month = load.MONTH.date()
    with connection.cursor() as cursor:
        started = time.perf_counter()
        cursor.execute(_CHARGED, [organization.pk, month])
        cursor.fetchall()
        yardstick = time.perf_counter() - started
    for name, choice in _CHOICES.items():
        started = time.perf_counter()
        rated = rerating.month(organization.pk, month, choice)
        seconds = time.perf_counter() - started
        assert rated.calls == options.calls
        assert rated.kept_calls == 0
        yield Figure(f"{rated.calls:,} calls, {name}", seconds, "s", limit=yardstick, goal=at_most(4))
    rated = rerating.month(organization.pk, month, Choice(plan=_the_same_prices()))
    off = sum(rated.then.values()) - sum(rated.now.values())
    yield Figure("under a copy of the same prices, off by", abs(off), "micros", goal=at_most(0))
    halves = [Span(month, month.replace(day=15)), Span(month.replace(day=16), month.replace(day=30))]
    started = time.perf_counter()
    explained = changes.between(organization.pk, *halves)
    seconds = time.perf_counter() - started
    assert sum(explained.parts.values()) == explained.micros
    yield Figure("the change between its halves explained", seconds, "s", goal=at_most(1))


def _the_same_prices() -> int:
    """Enter the list prices once more, as another plan, and return its id: under it every call is rated anew."""
    document = tomllib.loads((Path(prices.__file__).parent / "price_books" / "parley.toml").read_text())
    copies = [
        {**book, "reference": "copy", "default": False} for book in document["books"] if book["currency"] == "USD"
    ]
    prices.load({"books": copies}, now=load.MONTH)
    return PriceVersion.objects.get(book__reference="copy").pk
