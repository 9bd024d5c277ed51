"""Every route × every kind of visitor × {own, foreign, missing}. A route without an entry fails.

Foreign and missing organizations are answered alike: 404 with the same body.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from accounts import access, api_keys
from accounts.access import Permission, Role
from accounts.models import ApiKey
from billing_portal.billing import gateway
from billing_portal.billing.models import (
    BucketOffer,
    Customer,
    Dispute,
    Invoice,
    PaymentMethod,
    Purchase,
    SeatMove,
    SeatPlan,
    TaxId,
    TopUp,
)
from billing_portal.ledger import accounts, buckets
from billing_portal.ledger.models import Reservation
from billing_portal.portal.models import SavedView
from tests.conftest import NOW, join
from usage import ingestion
from usage.calls import Filters
from usage.exports import jobs
from usage.models import Comparison, ImportJob, WhatIf
from usage.outcomes import recording

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Page:
    """A page of an organization: the permission it asks for, and how it is asked."""

    permission: Permission
    method: str = "get"
    parts: dict[str, str] = field(default_factory=dict)  # further parts of the address, by kind of object


O = "o/<uuid:organization>/"  # noqa: E741 - as short as it is frequent
PAGES = {
    O: Page(Permission.VIEW_USAGE),
    f"{O}usage/": Page(Permission.VIEW_USAGE),
    f"{O}usage/changes/": Page(Permission.VIEW_USAGE),
    f"{O}usage/changes/<str:cause>/": Page(Permission.VIEW_USAGE, parts={"cause": "cause"}),
    f"{O}usage/what-if/": Page(Permission.VIEW_USAGE),
    f"{O}usage/what-if/new/": Page(Permission.VIEW_USAGE, "post"),
    f"{O}usage/what-if/<uuid:what_if>/": Page(Permission.VIEW_USAGE, parts={"what_if": "what_if"}),
    f"{O}usage/what-if/<uuid:what_if>/csv/": Page(Permission.VIEW_USAGE, parts={"what_if": "what_if"}),
    f"{O}usage/what-if/<uuid:what_if>/remove/": Page(Permission.VIEW_USAGE, "post", {"what_if": "what_if"}),
    f"{O}outcome-rules/": Page(Permission.VIEW_USAGE),
    f"{O}prices/": Page(Permission.VIEW_USAGE),
    f"{O}usage/own-log/": Page(Permission.VIEW_USAGE),
    f"{O}usage/own-log/new/": Page(Permission.VIEW_USAGE, "post"),
    f"{O}usage/own-log/<uuid:comparison>/": Page(Permission.VIEW_USAGE, parts={"comparison": "comparison"}),
    f"{O}usage/own-log/<uuid:comparison>/start/": Page(
        Permission.VIEW_USAGE, "post", parts={"comparison": "comparison"}
    ),
    f"{O}usage/own-log/<uuid:comparison>/remove/": Page(
        Permission.VIEW_USAGE, "post", parts={"comparison": "comparison"}
    ),
    f"{O}usage/own-log/<uuid:comparison>/<str:name>/csv/": Page(
        Permission.VIEW_USAGE, parts={"comparison": "comparison", "name": "class"}
    ),
    f"{O}usage/trace/": Page(Permission.VIEW_USAGE),
    f"{O}usage/calls/": Page(Permission.VIEW_USAGE),
    f"{O}usage/views/": Page(Permission.VIEW_USAGE),
    f"{O}usage/views/new/": Page(Permission.VIEW_USAGE, "post"),
    f"{O}usage/views/<uuid:view>/change/": Page(Permission.VIEW_USAGE, "post", {"view": "view"}),
    f"{O}usage/views/<uuid:view>/delete/": Page(Permission.VIEW_USAGE, "post", {"view": "view"}),
    f"{O}usage/views/<uuid:view>/restore/": Page(Permission.VIEW_USAGE, "post", {"view": "deleted_view"}),
    f"{O}usage/metadata/": Page(Permission.VIEW_USAGE),
    f"{O}usage/metadata/new/": Page(Permission.VIEW_USAGE, "post"),
    f"{O}usage/metadata/remove/": Page(Permission.VIEW_USAGE, "post"),
    f"{O}usage/new-calls/": Page(Permission.VIEW_USAGE),
    f"{O}usage/calls/<str:call_id>/": Page(Permission.VIEW_USAGE, parts={"call_id": "call"}),
    f"{O}usage/outcomes/": Page(Permission.VIEW_USAGE),
    f"{O}usage/conversations/": Page(Permission.VIEW_USAGE),
    f"{O}usage/conversations/<path:conversation>/": Page(Permission.VIEW_USAGE, parts={"conversation": "conversation"}),
    f"{O}usage/dispute-conversation/<path:conversation>/": Page(
        Permission.MANAGE_BILLING, "post", {"conversation": "conversation"}
    ),
    f"{O}usage/calls/<str:call_id>/proof/": Page(Permission.VIEW_USAGE, parts={"call_id": "call"}),
    f"{O}exports/": Page(Permission.VIEW_USAGE),
    f"{O}exports/new/": Page(Permission.VIEW_USAGE, "post"),
    f"{O}exports/<uuid:export>/cancel/": Page(Permission.VIEW_USAGE, "post", {"export": "export"}),
    f"{O}exports/<uuid:export>/file/": Page(Permission.VIEW_USAGE, parts={"export": "export"}),
    f"{O}invoices/": Page(Permission.VIEW_BILLING),
    f"{O}invoices/<uuid:invoice>/": Page(Permission.VIEW_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/payment/": Page(Permission.VIEW_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/amount-due/": Page(Permission.VIEW_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/amount-due/csv/": Page(Permission.VIEW_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/pay/": Page(Permission.MANAGE_BILLING, "post", {"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/pay/form/": Page(Permission.MANAGE_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/pay/form/back/": Page(Permission.MANAGE_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/receipt/": Page(Permission.VIEW_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/receipt/new/": Page(Permission.VIEW_BILLING, "post", {"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/receipt/file/": Page(Permission.VIEW_BILLING, parts={"invoice": "invoice"}),
    f"{O}invoices/<uuid:invoice>/<str:component>/": Page(
        Permission.VIEW_BILLING, parts={"invoice": "invoice", "component": "component"}
    ),
    f"{O}disputes/": Page(Permission.VIEW_BILLING),
    f"{O}disputes/new/": Page(Permission.MANAGE_BILLING),
    f"{O}disputes/<uuid:dispute>/": Page(Permission.VIEW_BILLING, parts={"dispute": "dispute"}),
    f"{O}disputes/<uuid:dispute>/write/": Page(Permission.MANAGE_BILLING, "post", {"dispute": "dispute"}),
    f"{O}disputes/<uuid:dispute>/withdraw/": Page(Permission.MANAGE_BILLING, "post", {"dispute": "dispute"}),
    f"{O}credits/": Page(Permission.VIEW_BILLING),
    f"{O}credits/buy/": Page(Permission.MANAGE_BILLING),
    f"{O}credits/buy/pay/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}credits/purchases/": Page(Permission.VIEW_BILLING),
    f"{O}credits/purchases/<uuid:purchase>/": Page(Permission.VIEW_BILLING, parts={"purchase": "purchase"}),
    f"{O}credits/purchases/<uuid:purchase>/cancel/": Page(Permission.MANAGE_BILLING, "post", {"purchase": "purchase"}),
    f"{O}credits/top-up/": Page(Permission.VIEW_BILLING),
    f"{O}credits/top-up/on/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}credits/top-up/off/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}buckets/": Page(Permission.VIEW_BILLING),
    f"{O}buckets/offers/": Page(Permission.VIEW_BILLING),
    f"{O}buckets/offers/<uuid:offer>/": Page(Permission.MANAGE_BILLING, parts={"offer": "offer"}),
    f"{O}buckets/offers/<uuid:offer>/buy/": Page(Permission.MANAGE_BILLING, "post", {"offer": "offer"}),
    f"{O}buckets/planner/": Page(Permission.VIEW_BILLING),
    f"{O}buckets/<uuid:bucket>/renewal/on/": Page(Permission.MANAGE_BILLING, "post", {"bucket": "bucket"}),
    f"{O}buckets/<uuid:bucket>/renewal/off/": Page(Permission.MANAGE_BILLING, "post", {"bucket": "bucket"}),
    f"{O}buckets/<uuid:bucket>/": Page(Permission.VIEW_BILLING, parts={"bucket": "bucket"}),
    f"{O}seats/": Page(Permission.VIEW_BILLING),
    f"{O}seats/move/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}seats/<uuid:move>/cancel/": Page(Permission.MANAGE_BILLING, "post", {"move": "seat_move"}),
    f"{O}limits/": Page(Permission.VIEW_BILLING),
    f"{O}limits/cap/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}limits/alerts/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}payment-methods/": Page(Permission.VIEW_BILLING),
    f"{O}payment-methods/add/": Page(Permission.MANAGE_BILLING),
    f"{O}payment-methods/mandate/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}payment-methods/added/": Page(Permission.MANAGE_BILLING),
    f"{O}payment-methods/<int:method>/default/": Page(Permission.MANAGE_BILLING, "post", {"method": "method"}),
    f"{O}payment-methods/<int:method>/remove/": Page(Permission.MANAGE_BILLING, "post", {"method": "method"}),
    f"{O}payment-methods/stripe/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}developers/": Page(Permission.MANAGE_KEYS),
    f"{O}developers/keys/new/": Page(Permission.MANAGE_KEYS),
    f"{O}developers/keys/<uuid:key>/": Page(Permission.MANAGE_KEYS, parts={"key": "key"}),
    f"{O}developers/keys/<uuid:key>/rotate/": Page(Permission.MANAGE_KEYS, parts={"key": "key"}),
    f"{O}developers/keys/<uuid:key>/revoke/": Page(Permission.MANAGE_KEYS, "post", {"key": "key"}),
    f"{O}settings/": Page(Permission.VIEW_USAGE),
    f"{O}billing-details/": Page(Permission.VIEW_BILLING),
    f"{O}billing-details/first/": Page(Permission.MANAGE_BILLING),
    f"{O}billing-details/change/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}billing-details/recipients/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}billing-details/tax-ids/add/": Page(Permission.MANAGE_BILLING, "post"),
    f"{O}billing-details/tax-ids/<uuid:tax_id>/remove/": Page(Permission.MANAGE_BILLING, "post", {"tax_id": "tax_id"}),
}
# Parts of addresses that name nobody's object: words of the portal's own, and what is on sale to everybody.
WORDS = {"cause", "offer"}
# Asked for by a person, for no organization.
PERSONAL = {"", "organizations/new/", "accounts/profile/"}
# Open to everyone, or guarded by something else that has tests of its own.
OPEN = {
    "stripe/webhooks/",
    "api/v1/retell/webhook",
    "accounts/terms/",
    "exports/<str:token>/",
    "receipts/keys/",
    "receipts/verify_receipt.py",
}
# By allauth, which knows a person and no organization.
ALLAUTH = "accounts/"
STAFF = "staff/"
# Pages on which an own organization may answer 404, because they need an object that the request must name.
NEEDS_AN_OBJECT = {
    f"{O}invoices/<uuid:invoice>/amount-due/",
    f"{O}invoices/<uuid:invoice>/amount-due/csv/",
    f"{O}usage/own-log/<uuid:comparison>/<str:name>/csv/",
    f"{O}payment-methods/mandate/",
    f"{O}payment-methods/added/",
    # Others' views are changed only by those who look after the organization.
    *(f"{O}usage/views/<uuid:view>/{verb}/" for verb in ("change", "delete", "restore")),
}

PLATFORM = "api/v1/organizations/<str:organization>"
API = {
    "api/v1/calls": {"get": ApiKey.Scope.USAGE_READ, "post": ApiKey.Scope.CALLS_WRITE},
    "api/v1/calls.csv": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/calls.jsonl": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/calls/<str:call_id>": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/calls/<str:call_id>/proof": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/calls/<str:call_id>/trace": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/completeness": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/conversations/events": {"post": ApiKey.Scope.CALLS_WRITE},
    "api/v1/conversations/<str:conversation_id>": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/conversations/<str:conversation_id>/billing": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/imports": {"post": ApiKey.Scope.CALLS_WRITE},
    "api/v1/imports/<uuid:import_id>": {"get": ApiKey.Scope.CALLS_WRITE},
    "api/v1/imports/<uuid:import_id>/refusals": {"get": ApiKey.Scope.CALLS_WRITE},
    "api/v1/invoices/<str:number>/amount-due": {"get": ApiKey.Scope.BILLING_READ},
    "api/v1/invoices/<str:number>/receipt": {"get": ApiKey.Scope.BILLING_READ},
    "api/v1/invoices/<str:number>/receipt.zip": {"get": ApiKey.Scope.BILLING_READ},
    "api/v1/events": {"post": ApiKey.Scope.CALLS_WRITE},
    "api/v1/events/batch": {"post": ApiKey.Scope.CALLS_WRITE},
    "api/v1/usage": {"get": ApiKey.Scope.USAGE_READ},
    "api/v1/usage/changes": {"get": ApiKey.Scope.USAGE_READ},
    f"{PLATFORM}/authorization": {"get": ApiKey.Scope.SPEND_AUTHORIZE},
    f"{PLATFORM}/reservations": {"post": ApiKey.Scope.SPEND_AUTHORIZE},
    f"{PLATFORM}/reservations/<str:reference>": {"get": ApiKey.Scope.SPEND_AUTHORIZE},
    f"{PLATFORM}/reservations/<str:reference>/release": {"post": ApiKey.Scope.SPEND_AUTHORIZE},
    f"{PLATFORM}/reservations/<str:reference>/use": {"post": ApiKey.Scope.SPEND_AUTHORIZE},
}
API_OPEN = {"api/v1/schema", "api/v1/docs"}


def routes(patterns: list[URLPattern | URLResolver] | None = None, prefix: str = "") -> Iterator[str]:
    for pattern in patterns if patterns is not None else get_resolver().url_patterns:
        address = prefix + str(pattern.pattern).lstrip("^").rstrip("$").replace("\\Z", "")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, address)
        else:
            yield address


def test_every_route_has_an_entry():
    known = {*PAGES, *PERSONAL, *OPEN, *API, *API_OPEN}
    missing = [route for route in routes() if route not in known and not route.startswith((ALLAUTH, STAFF))]
    assert missing == []


def test_no_entry_is_left_without_its_route():
    assert {*PAGES, *PERSONAL, *OPEN, *API, *API_OPEN} - set(routes()) == set()


def furnish(organization):
    """Give an organization one of everything that an address can name; return their names."""
    accounts.open(organization=organization, now=NOW)
    Customer.objects.create(organization=organization, stripe_customer_id=f"cus_{organization.pk}", created_at=NOW)
    invoice = Invoice.objects.create(
        organization=organization, stripe_invoice_id=f"in_{organization.pk}", currency="USD", drafted_at=NOW
    )
    method = PaymentMethod.objects.create(
        organization=organization, stripe_payment_method_id=f"pm_{organization.pk}", kind="card", created_at=NOW
    )
    order = TopUp.objects.create(
        organization=organization,
        currency="USD",
        threshold_micros=0,
        amount_micros=1_000_000,
        ceiling_micros=1_000_000,
        accepted_by=organization.users.first(),
        accepted_at=NOW,
        ended_at=NOW,
    )
    purchase = Purchase.objects.create(
        organization=organization,
        origin="top_up",
        way="card",
        currency="USD",
        amount_micros=1_000_000,
        top_up=order,
        asked_at=NOW,
    )
    tax_id = TaxId.objects.create(
        organization=organization, type="us_ein", value="91-1144442", country="US", added_at=NOW, state="refused"
    )
    call_id = f"call_{organization.pk}"
    item = {
        "call_id": call_id,
        "organization": organization.reference,
        "call_type": "web_call",
        "call_status": "ended",
        "start_timestamp": NOW.isoformat(),
        "duration_ms": 0,
    }
    ingestion.record([msgspec.json.encode(item)], now=NOW)
    conversation = f"c_{organization.pk}"
    said = {"conversation_id": conversation, "event_id": f"e_{organization.pk}", "type": "ai_answered"}
    said |= {"organization": organization.reference, "occurred_at": NOW.isoformat()}
    recording.record([msgspec.json.encode(said)], now=NOW)
    export = jobs.ask(
        organization=organization,
        by=organization.memberships.order_by("id")[0].user,
        name="csv",
        filters=Filters(),
        calls=1,
        now=NOW,
    )
    what_if = WhatIf.objects.create(
        organization=organization,
        asked_by=organization.memberships.order_by("id")[0].user,
        asked_at=NOW,
        expires_at=NOW + timedelta(days=1),
        llm="gpt_5",
        months=["2026-09-01"],
    )
    key, _ = api_keys.issue(organization=organization, name="Export", scopes=["usage:read"], now=NOW)
    reservation = Reservation.objects.create(
        organization=organization,
        reference=f"reservation_{organization.pk}",
        amount_micros=1,
        currency="USD",
        lasts_seconds=60,
        created_at=NOW,
        expires_at=NOW + timedelta(days=36_500),
    )
    dispute = Dispute.objects.create(
        public_id=uuid.uuid4(),
        organization=organization,
        kind="call",
        reference=call_id,
        label=f"Call {call_id}",
        reason="other",
        currency="USD",
        amount_micros=1,
        claimed_micros=1,
        opened_by=organization.memberships.order_by("id")[0].user,
        opened_at=NOW,
    )
    comparison = Comparison.objects.create(
        organization=organization,
        asked_by=organization.memberships.order_by("id")[0].user,
        asked_at=NOW,
        name="log.csv",
        kind="csv",
        size_bytes=1,
        header=["id"],
        sample=[["x"]],
        starts_date=NOW.date(),
        ends_date=NOW.date(),
        expires_at=NOW + timedelta(days=1),
    )
    job = ImportJob.objects.create(organization=organization, asked_at=NOW, name="calls.csv", size_bytes=0)
    terms = buckets.Terms(("resolution",), 10, 1_000_000, NOW, NOW + timedelta(days=365))
    bucket = buckets.add(organization.pk, terms, reference="bucket", now=NOW)
    # What is on sale is everybody's in its currency.
    offer, _ = BucketOffer.objects.get_or_create(
        code="resolutions-10",
        currency="USD",
        starts_at=NOW,
        defaults={"outcomes": ["resolution"], "size": 10, "price_micros": 1_000_000, "created_at": NOW},
    )
    plan = SeatPlan.objects.create(
        organization=organization,
        stripe_subscription_id=f"sub_seats_{organization.pk}",
        seat_micros=1,
        currency="USD",
        base_seats=1,
        seats=1,
        units=0,
        unit_micros=1,
        attached_at=NOW,
    )
    seat_move = SeatMove.objects.create(
        organization=organization,
        plan=plan,
        before_seats=1,
        before_units=0,
        before_unit_micros=1,
        seats=0,
        units=1,
        unit_micros=1,
        asked_by=organization.memberships.order_by("id")[0].user,
        asked_at=NOW,
    )
    return {
        "tax_id": str(tax_id.public_id),
        "seat_move": str(seat_move.public_id),
        "bucket": str(bucket.public_id),
        "offer": str(offer.public_id),
        "key": str(key.public_id),
        "export": str(export.public_id),
        "what_if": str(what_if.public_id),
        "invoice": str(invoice.public_id),
        "method": str(method.pk),
        "call": call_id,
        "conversation": conversation,
        "component": "llm",
        "cause": "volume",
        "organization": organization.reference,
        "reservation": reservation.reference,
        "purchase": str(purchase.public_id),
        "comparison": str(comparison.public_id),
        "class": "mismatch",
        "dispute": str(dispute.public_id),
        "import": str(job.public_id),
        "view": str(_view(organization, "A view").public_id),
        "deleted_view": str(_view(organization, "Gone", deleted_at=NOW).public_id),
    }


def _view(organization, name, **fields):
    owner = organization.memberships.order_by("id")[0].user
    return SavedView.objects.create(
        organization=organization, owner=owner, name=name, is_shared=True, created_at=NOW, **fields
    )


def address(route: str, organization_id: object, names: dict[str, str]) -> str:
    page = PAGES[route]
    filled = route.replace("<uuid:organization>", str(organization_id))
    for part, kind in page.parts.items():
        for converter in ("str", "int", "uuid", "path"):
            filled = filled.replace(f"<{converter}:{part}>", names[kind])
    return f"/{filled}"


def ask(client: Client, method: str, path: str):
    return getattr(client, method)(path)


def without_tokens(response) -> str:
    """Return the page without its CSRF tokens, which are masked anew each time."""
    return re.sub(r'(csrf-token" content|csrfmiddlewaretoken" value)="[^"]+"', r'\1=""', response.content.decode())


def logged_in(user) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("route", PAGES)
def test_anonymous_visitors_are_sent_to_log_in(route, acme):
    response = ask(Client(), PAGES[route].method, address(route, acme.public_id, furnish(acme)))
    assert response.status_code == 302
    assert response.url.startswith("/accounts/login/")


@pytest.mark.parametrize("route", PAGES)
def test_a_role_sees_of_its_own_organization_what_it_may(route, acme, make_user):
    page, path = PAGES[route], address(route, acme.public_id, furnish(acme))
    for role in Role.values:
        before = transaction.savepoint()  # each finds what the one before it found
        user = make_user(f"{role}@acme.example")
        join(acme, user, role)
        try:
            status = ask(logged_in(user), page.method, path).status_code
        except gateway.InsideTransaction:  # past the door, on the way to Stripe
            assert page.permission in access.PERMISSIONS[role], role
            continue
        finally:
            transaction.savepoint_rollback(before)
        if page.permission not in access.PERMISSIONS[role]:
            assert status == 403, role
        elif route not in NEEDS_AN_OBJECT:
            assert status in {200, 302}, role


@pytest.mark.parametrize("route", PAGES)
def test_i16_foreign_and_missing_organizations_answer_alike(route, acme, other, charlie):
    names = furnish(acme)
    furnish(other)
    client = logged_in(charlie)
    foreign = ask(client, PAGES[route].method, address(route, acme.public_id, names))
    missing = ask(client, PAGES[route].method, address(route, uuid.uuid4(), names))
    assert foreign.status_code == missing.status_code == 404
    assert without_tokens(foreign) == without_tokens(missing)


@pytest.mark.parametrize("route", [route for route, page in PAGES.items() if page.parts.keys() - WORDS])
def test_i16_a_foreign_object_under_ones_own_organization_is_missing(route, acme, other, charlie):
    foreign_names = furnish(acme)
    furnish(other)
    response = ask(logged_in(charlie), PAGES[route].method, address(route, other.public_id, foreign_names))
    assert response.status_code == 404


@pytest.mark.parametrize("route", sorted(PERSONAL))
def test_personal_pages_ask_for_a_log_in(route):
    response = Client().get(f"/{route}")
    assert response.status_code == 302
    assert response.url.startswith("/accounts/login/")


def test_customers_do_not_open_the_staff_desk(alice, acme):
    client = logged_in(alice)
    staff_routes = [route for route in routes() if route.startswith(STAFF) and "<" not in route and "(" not in route]
    assert len(staff_routes) > 20
    for route in staff_routes:
        response = client.get(f"/{route}")
        assert response.status_code in {302, 403, 404}, route


def test_staff_without_a_second_factor_do_not_open_the_staff_desk(make_user):
    assert settings.STAFF_MFA_REQUIRED
    client = logged_in(make_user("staff@vendor.example", is_staff=True, is_superuser=True))
    assert client.get("/staff/accounts/organization/").status_code == 302


def test_staff_are_strangers_to_the_customers_pages(make_user, acme):
    staff = make_user("staff@vendor.example", is_staff=True, is_superuser=True)
    assert logged_in(staff).get(f"/o/{acme.public_id}/").status_code == 404


# ── API ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def api_client(organization, scopes) -> Client:
    _, secret = api_keys.issue(organization=organization, name="k", scopes=scopes, now=NOW)
    return Client(headers={"authorization": f"Bearer {secret}"})


def api_address(route: str, names: dict[str, str]) -> str:
    filled = route.replace("<str:call_id>", names["call"]).replace("<str:organization>", names["organization"])
    filled = filled.replace("<uuid:import_id>", names["import"])
    return "/" + filled.replace("<str:reference>", names["reservation"])


def api_cases() -> list[tuple[str, str]]:
    return [(route, method) for route, methods in API.items() for method in methods]


@pytest.fixture
def frozen(monkeypatch):
    monkeypatch.setattr("accounts.clock.now", lambda: NOW)


@pytest.mark.parametrize(("route", "method"), api_cases())
def test_the_api_refuses_a_missing_key(route, method, acme, frozen):
    response = ask(Client(), method, api_address(route, furnish(acme)))
    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(("route", "method"), api_cases())
def test_the_api_refuses_a_key_without_the_scope(route, method, acme, frozen):
    writing = set(ApiKey.VENDOR_SCOPES)  # no organization's key may have them
    others = sorted(set(ApiKey.Scope) - writing - {API[route][method]})
    response = ask(api_client(acme, others), method, api_address(route, furnish(acme)))
    assert response.status_code == 403


def test_i16_a_key_finds_its_own_call_and_a_foreign_one_is_missing(acme, other, frozen):
    own, foreign = furnish(acme), furnish(other)
    client = api_client(acme, [ApiKey.Scope.USAGE_READ])
    assert client.get(f"/api/v1/calls/{own['call']}").status_code == 200
    for rest in ("", "/trace", "/proof"):
        answer_foreign = client.get(f"/api/v1/calls/{foreign['call']}{rest}")
        answer_missing = client.get(f"/api/v1/calls/call_nowhere{rest}")
        assert answer_foreign.status_code == answer_missing.status_code == 404
        assert answer_foreign.json() | {"instance": ""} == answer_missing.json() | {"instance": ""}


def test_i16_a_key_cannot_ask_for_another_organization(acme, other, frozen):
    furnish(acme), furnish(other)
    client = api_client(acme, [ApiKey.Scope.USAGE_READ])
    for address in ("/api/v1/calls", "/api/v1/calls.csv", "/api/v1/calls.jsonl", "/api/v1/completeness"):
        foreign = client.get(address, {"organization": other.reference})
        missing = client.get(address, {"organization": "nobody"})
        assert foreign.status_code == missing.status_code == 404


@pytest.mark.parametrize(("route", "method"), [case for case in api_cases() if "<str:organization>" in case[0]])
def test_i16_a_reservation_is_found_under_its_own_organization_only(route, method, acme, other, frozen):
    own, foreign = furnish(acme), furnish(other)
    client = api_client(None, [ApiKey.Scope.SPEND_AUTHORIZE])
    missing = ask(client, method, api_address(route, own | {"organization": "nobody"}))
    assert missing.status_code in {404, 415}  # a body that is missing is noticed first
    if "<str:reference>" in route:
        assert ask(client, method, api_address(route, own)).status_code == 200
        crossed = ask(client, method, api_address(route, own | {"reservation": foreign["reservation"]}))
        assert crossed.status_code == missing.status_code == 404
        assert crossed.json() == missing.json()
