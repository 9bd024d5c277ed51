"""Pages of the largest and the smallest customer over HTTP: figures, the list of calls at any depth, as HTML and JSON.

The yardstick is an empty view of Django, asked for in turn with the pages, on the same connection.
"""

import argparse
import base64
import http.client
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path

from accounts import api_keys
from accounts.models import ApiKey, Membership, Organization
from billing_portal.local import latencies, serving
from billing_portal.local.bench import Figure, Goal, at_most, load, rows
from usage import arrivals, breakdowns, metadata_usage, periods
from usage.breakdowns import Dimension

_BACKEND = "django.contrib.auth.backends.ModelBackend"
_RUNS = 3
# Each filter that the list offers, by its names in the page's address and in the API's.
_FILTERS = {
    "product": {"product": "gpt_4o"},
    "agent": {"agent": "agent_3", "agent_id": "agent_3"},
    "status": {"status": "not_connected"},
    "direction": {"direction": "outbound"},
    "id": {"call_id": "call_0"},
    "nothing matches": {"status": "ongoing"},
}
_BY_METADATA = {"key": "campaign", "value": "no such campaign"}

_BY_MODEL_RAW = """
    SELECT (c.started_at AT TIME ZONE 'UTC')::date, m.products, count(*), sum(c.duration_ms), sum(c.amount_micros)
    FROM usage_call c JOIN usage_productmix m ON m.id = c.mix_id
    WHERE c.organization_id = %s AND c.started_at >= %s AND c.started_at < %s GROUP BY 1, 2"""


def bare(request: HttpRequest) -> HttpResponse:
    """The yardstick."""
    return HttpResponse(b"{}", content_type="application/json")


urlpatterns = [path("bare", bare), path("", include("billing_portal.urls"))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000_000, help="of the month (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=200, help="sharing them (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="requests of each kind (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the p95 of each kind of page beside an empty view, of the largest customer and of the smallest."""
    month = periods.previous_month(datetime.now(UTC).date())
    organizations = load.organizations(options.organizations)
    if rows.hold(organizations, options.calls, month=datetime(month.year, month.month, 1, tzinfo=UTC), detailed=20):
        rows.roll_up(organizations)
    largest, smallest = organizations[0], organizations[-1]
    for name, organization in (("largest", largest), ("smallest", smallest)):
        yield Figure(f"calls of the {name} organization", _calls(organization, month), "")
    yield from _sums(largest, month)
    yield _counted(largest, month)
    taken = _taken(largest, smallest, month, rounds=options.rounds)
    yield from _judged(taken)


def _judged(taken: Mapping[str, list[float]]) -> Iterator[Figure]:
    """Yield the figures; the goals are about the p95 of the largest organization's pages."""
    for percent in (50, 95):
        empty = latencies.percentile(taken["empty"], percent)
        yield Figure(f"empty view, p{percent}", empty, "ms")
        for name, values in taken.items():
            if name != "empty":
                value = latencies.percentile(values, percent)
                yield Figure(
                    f"{name}, p{percent}", value, "ms", limit=empty, goal=_goal(name) if percent == 95 else None
                )
    for name in ("JSON, first", "JSON, deep", "HTML, first", "HTML, deep", "figures by model"):
        large, small = (latencies.percentile(taken[f"{name}, {size}"], 95) for size in ("largest", "smallest"))
        yield Figure(f"{name}: largest beside smallest, p95", large, "ms", limit=small, goal=at_most(1.5))


def _goal(name: str) -> Goal | None:
    return at_most(4 if name.startswith("JSON") else 8) if "largest" in name else None


def _sums(organization: Organization, month: date) -> Iterator[Figure]:
    """Yield how long the month by day and model takes from the rollups, beside the same from the calls."""
    ends_on = periods.next_month(month) - timedelta(days=1)
    days = {"starts_on": month, "ends_on": ends_on}

    def raw() -> None:
        with connection.cursor() as cursor:
            cursor.execute(_BY_MODEL_RAW, [organization.pk, *periods.bounds(month, UTC)])
            cursor.fetchall()

    def rolled() -> None:
        breakdowns.by_day(organization.pk, Dimension.MODEL, **days, values=["gpt_4o", "gpt_4o_mini", "gpt_4_1"])

    slow, fast = _median(raw), _median(rolled)
    yield Figure("month by day and model, largest", fast, "ms", limit=slow, goal=at_most(1 / 500))


def _counted(organization: Organization, month: date) -> Figure:
    """Return how many calls a second are counted by a metadata key that was just chosen."""
    key = metadata_usage.track(organization=organization, key="campaign", starts_on=month, now=datetime.now(UTC))
    started = time.perf_counter()
    counted = 0
    while more := metadata_usage.count(key.pk):
        counted += more
    taken = time.perf_counter() - started
    metadata_usage.untrack(organization=organization, key=key.key)
    return Figure("calls counted by a metadata key", counted / taken, "/s")


def _median(work: Callable[[], None]) -> float:
    """Return the milliseconds of the middle one of some runs."""
    taken = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)[_RUNS // 2]


def _taken(largest: Organization, smallest: Organization, month: date, *, rounds: int) -> dict[str, list[float]]:
    # In production the domain's clock is this machine's; only the demo asks the cache how far it is ahead.
    with override_settings(ROOT_URLCONF=__name__, STRIPE_IS_SANDBOX=False, SESSION_COOKIE_SECURE=False):
        visitors = {"largest": _Visitor.of(largest, month), "smallest": _Visitor.of(smallest, month)}
        with serving.served() as port:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            requests: dict[str, Callable[[], object]] = {"empty": lambda: _get(link, "/bare", {})}
            for size, visitor in visitors.items():
                for name, request in visitor.requests(link).items():
                    requests[f"{name}, {size}"] = request
            return latencies.interleaved(requests, rounds=rounds, warm_up=10)


@dataclass(frozen=True)
class _Visitor:
    """A person and a key of one organization."""

    organization: Organization
    month: date
    cookie: str
    secret: str
    rng: random.Random = field(default_factory=lambda: random.Random(5))  # noqa: S311 - a benchmark's places

    @classmethod
    def of(cls, organization: Organization, month: date) -> "_Visitor":
        email = f"{organization.reference}@bench.example"
        users = get_user_model().objects
        user = users.filter(email=email).first() or users.create_user(email, "correct horse battery")
        now = datetime.now(UTC)
        Membership.objects.get_or_create(
            organization=organization, user=user, defaults={"role": Membership.Role.OWNER, "created_at": now}
        )
        client = Client()
        client.force_login(user, backend=_BACKEND)
        scopes = [str(ApiKey.Scope.USAGE_READ)]
        _, secret = api_keys.issue(organization=organization, name="bench", scopes=scopes, now=now)
        return cls(organization, month, f"sessionid={client.cookies['sessionid'].value}", secret)

    def requests(self, link: http.client.HTTPConnection) -> dict[str, Callable[[], object]]:
        """Return what the visitor asks for, by name: pages as a browser gets them, the list as a program does."""
        home = f"/o/{self.organization.public_id}"
        days = {"from": str(self.month), "to": str(periods.next_month(self.month) - timedelta(days=1))}
        browser, program = {"Cookie": self.cookie}, {"Authorization": f"Bearer {self.secret}"}

        def html(**more: str) -> object:
            return _get(link, f"{home}/usage/calls/?{urlencode(days | more)}", browser)

        def json(**more: str) -> object:
            return _get(link, f"/api/v1/calls?{urlencode(days | {'limit': '50'} | more)}", program)

        asked: dict[str, Callable[[], object]] = {
            "figures by model": lambda: _get(link, f"{home}/usage/?{urlencode(days | {'by': 'model'})}", browser),
            "HTML, first": html,
            "HTML, deep": lambda: html(cursor=self._html_cursor()),
            "HTML, oldest first, deep": lambda: html(cursor=self._html_cursor(), sort="oldest"),
            "JSON, first": json,
            "JSON, deep": lambda: json(cursor=self._json_cursor()),
            "JSON, oldest first, deep": lambda: json(cursor=self._json_cursor(), order="oldest"),
        }
        known = {"If-None-Match": f'"{arrivals.newest(self.organization.pk)}"'}
        asked["news, none"] = partial(
            _get, link, f"{home}/usage/new-calls/?seen=0", browser | known, status=http.HTTPStatus.NOT_MODIFIED
        )
        asked["HTML, deep, by metadata that none has"] = partial(self._deep, html, self._html_cursor, _BY_METADATA)
        for name, filters in _FILTERS.items():
            page = {key: value for key, value in filters.items() if key != "agent_id"}
            api = {key: value for key, value in filters.items() if key != "agent"}
            asked[f"HTML, deep, by {name}"] = partial(self._deep, html, self._html_cursor, page)
            asked[f"JSON, deep, by {name}"] = partial(self._deep, json, self._json_cursor, api)
        return asked

    def _deep(self, ask: Callable[..., object], cursor: Callable[[], str], filters: dict[str, str]) -> object:
        return ask(cursor=cursor(), **filters)

    def _place(self) -> datetime:
        starts_at = datetime(self.month.year, self.month.month, 1, tzinfo=UTC)
        return starts_at + timedelta(seconds=self.rng.randrange(2 * 86_400, 26 * 86_400))

    def _html_cursor(self) -> str:
        return base64.urlsafe_b64encode(f"{self._place().isoformat()} 0".encode()).decode()

    def _json_cursor(self) -> str:
        return f"{int(self._place().timestamp())}000000-0"


def _get(
    link: http.client.HTTPConnection, address: str, headers: dict[str, str], *, status: int = http.HTTPStatus.OK
) -> object:
    link.request("GET", address, headers=headers)
    response = link.getresponse()
    content = response.read()
    if response.status != status:
        raise RuntimeError(f"{address}: {response.status} {content.decode(errors='replace')[:300]}")
    return content


def _calls(organization: Organization, month: date) -> int:
    found = breakdowns.totals(
        organization.pk, Dimension.AGENT, starts_on=month, ends_on=periods.next_month(month) - timedelta(days=1)
    )
    return sum(part.calls for part in found)
