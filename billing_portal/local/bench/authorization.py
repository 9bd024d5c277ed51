"""What the platform waits for before a call: an authorization and a reservation, beside an empty view of DRF."""

import argparse
import http.client
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.test import override_settings
from django.urls import include, path
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts import api_keys, clock
from accounts.models import ApiKey, Organization
from billing_portal.ledger import accounts, credits, limits, reservations
from billing_portal.ledger.models import Account, Grant, Settlement
from billing_portal.local import latencies, serving
from billing_portal.local.bench import Figure, at_most

_ORGANIZATIONS = 20
_SETTLEMENTS = 500
_OPEN = 50
_ROUNDS = 500
_JUDGED = 95


class EmptyView(APIView):
    """The yardstick: DRF without a key, a query or an answer."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(b"{}", content_type="application/json")


urlpatterns = [path("empty", EmptyView.as_view()), path("", include("billing_portal.urls"))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="requests of each kind (default: %(default)s)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the p95 of whole requests over HTTP, one after the other on one connection, the kinds in turn."""
    secret = _furnish()
    # In production the domain's clock is this machine's; only the demo asks the cache how far it is ahead.
    with override_settings(ROOT_URLCONF=__name__, STRIPE_IS_SANDBOX=False), serving.served() as port:
        client = _Client(http.client.HTTPConnection("127.0.0.1", port, timeout=60), secret)
        taken = latencies.interleaved(client.calls(), rounds=options.rounds)
    for percent in (50, 95):
        empty = latencies.percentile(taken["empty"], percent)
        yield Figure(f"empty view, p{percent}", empty, "ms")
        for name, bound in (("authorization", 2), ("reservation", 6)):
            value = latencies.percentile(taken[name], percent)
            goal = at_most(bound) if percent == _JUDGED else None
            yield Figure(f"{name}, p{percent}", value, "ms", limit=empty, goal=goal)


@dataclass(frozen=True)
class _Client:
    """The platform, with its key and one connection that stays open."""

    connection: http.client.HTTPConnection
    secret: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def calls(self) -> dict[str, Callable[[], None]]:
        return {"empty": self.empty, "authorization": self.authorize, "reservation": self.reserve}

    def empty(self) -> None:
        self._send("GET", "/empty", 200)

    def authorize(self) -> None:
        self._send("GET", f"{self._organization()}/authorization?direction=inbound", 200)

    def reserve(self) -> None:
        number = next(self.numbers)
        body = {"reference": f"r{number}", "amount_micros": 1, "call_id": f"call_{number}", "direction": "inbound"}
        self._send("POST", f"{self._organization()}/reservations", 201, json.dumps(body))

    def _organization(self) -> str:
        return f"/api/v1/organizations/bench-{next(self.numbers) % _ORGANIZATIONS}"

    def _send(self, method: str, address: str, status: int, body: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        self.connection.request(method, address, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status != status:
            raise RuntimeError(f"{method} {address}: {response.status} {content.decode(errors='replace')[:300]}")


def _furnish() -> str:
    """Make organizations with a past: settlements, grants, open reservations, a cap. Return the platform's secret."""
    now = clock.now()
    for number in range(_ORGANIZATIONS):
        organization = Organization.objects.create(
            reference=f"bench-{number}", name=f"Bench {number}", currency="USD", created_at=now
        )
        accounts.open(organization=organization, now=now - timedelta(days=90))
        limits.set(organization.pk, limits.Terms(cap_micros=10**12), by=None, now=now)
        for grant in range(10):
            credits.grant(
                organization=organization, kind=Grant.Kind.PREPAID, micros=10**9, reference=f"g{grant}", now=now
            )
        Settlement.objects.bulk_create(
            Settlement(
                organization=organization,
                month=now.date().replace(day=1),
                first_sequence=sequence,
                last_sequence=sequence,
                gross_micros=1_000,
                accrued_micros=0,
                settled_at=now,
            )
            for sequence in range(1, _SETTLEMENTS + 1)
        )
        for wish in range(_OPEN):
            reservations.reserve(
                organization.pk, reservations.Wish(reference=f"w{wish}", micros=1_000, lasts_seconds=86_400), now=now
            )
    Account.objects.update(has_card=True)
    _, secret = api_keys.issue(organization=None, name="Bench", scopes=[str(ApiKey.Scope.SPEND_AUTHORIZE)], now=now)
    return secret
