"""Every page of the staff desk opens, finds, and lets be changed only what may be."""

import json
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import clock
from accounts.models import ApiKey, Letter, Organization, User
from billing_portal.billing.models import InboxEvent, Invoice
from billing_portal.ledger import checks, write_offs
from billing_portal.ledger.models import Finding, Transaction
from billing_portal.support import actions, kinds
from billing_portal.support.desk import read_only
from billing_portal.support.desk.read_only import ReadOnlyAdmin
from tests.support.conftest import AUGUST, SETTLED
from usage import imports, intake_log
from usage.intake_log import Rejected, Repeated
from usage.models import Call, HeldCall, ImportJob, PriceBook, PriceRate, PriceVersion, UnratedCall

PAGES = sorted(admin.site._registry.items(), key=lambda pair: pair[0]._meta.label)
READ_ONLY = [(model, page) for model, page in PAGES if isinstance(page, ReadOnlyAdmin)]


@pytest.fixture
def furnished(furnished: Organization, desk: Client) -> Organization:
    """Acme also with something that staff did, a letter, and books that were proved and did not hold."""
    books, sam = {"organization": furnished, "now": SETTLED}, User.objects.get(email="sam@desk.example")
    write_offs.forgive(month=AUGUST, micros=1, reason="Outage", reference="f", **books)
    checks.check(furnished.pk, now=SETTLED)
    Finding.objects.create(
        organization=furnished, law="I1", subject="all credit", expected=1, found=2, noticed_at=SETTLED
    )
    actions.ask(
        kind=kinds.named("goodwill"),
        params={"micros": 60_000_000, "last_day": None},
        reason="Outage",
        public_id=uuid.uuid4(),
        by=sam,
        **books,
    )
    assert Letter.objects.exists()
    return furnished


def address(model: Any, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def text_of(answer: Any) -> str:
    html = re.sub(r"<(script|style).*?</\1>", " ", answer.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_every_page_opens_with_data(desk: Client, furnished: Organization) -> None:
    assert desk.get("/staff/").status_code == 200
    for model, _ in PAGES:
        row = model._default_manager.order_by("pk").first()
        assert row is not None, f"There is no {model._meta.label} to look at"
        for url in (address(model, "changelist"), address(model, "change", row.pk), address(model, "history", row.pk)):
            assert desk.get(url).status_code == 200, url


def test_every_search_answers(desk: Client, furnished: Organization) -> None:
    for model, page in PAGES:
        assert page.search_fields, f"{model._meta.label} cannot be searched"
        for text in ("acme", "call_1_3", "0b3c", "in_acme", "100%"):
            assert desk.get(address(model, "changelist"), {"q": text}).status_code == 200, (model, text)


def test_read_only_pages_refuse_every_change(desk: Client, furnished: Organization) -> None:
    """All in one, as furnishing takes longer than asking."""
    assert len(READ_ONLY) > 30
    changed = [model._meta.label for model, _ in READ_ONLY if not refuses_every_change(desk, model)]
    assert not changed


def refuses_every_change(desk: Client, model: Any) -> bool:
    row = model._default_manager.order_by("pk").first()
    assert row is not None, f"There is no {model._meta.label} to look at"
    before = model._default_manager.values().get(pk=row.pk)
    answers = [
        desk.get(address(model, "add")),
        desk.post(address(model, "add"), {}),
        desk.post(address(model, "change", row.pk), {}),
        desk.post(address(model, "delete", row.pk), {"post": "yes"}),
    ]
    desk.post(address(model, "changelist"), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    is_unchanged = bool(model._default_manager.values().get(pk=row.pk) == before)
    return is_unchanged and {answer.status_code for answer in answers} == {403}


def test_nobody_else_s_pages_are_up(desk: Client) -> None:
    shown = {model._meta.label for model, _ in PAGES}
    assert not shown & {"mfa.Authenticator", "account.EmailAddress", "usersessions.UserSession", "auth.Group"}
    assert "djstripe.WebhookEndpoint" not in shown
    assert desk.get("/staff/djstripe/apikey/").status_code == 404
    assert all(isinstance(page, ReadOnlyAdmin) for model, page in PAGES if model._meta.app_label == "djstripe")


@pytest.mark.parametrize(
    ("kind", "minor", "currency", "shown"),
    [
        ("Invoice", 1234, "usd", "12.34 USD"),
        ("Invoice", 1234, "jpy", "1,234 JPY"),
        ("Charge", -5, "eur", "−0.05 EUR"),
        ("Charge", 1234567, "usd", "12,345.67 USD"),
    ],
)
def test_mirrored_amounts_are_in_the_right_unit(
    desk: Client, mirrored: Callable[..., Any], kind: str, minor: int, currency: str, shown: str
) -> None:
    amounts = {"amount": minor, "total": minor, "currency": currency}
    mirrored("Customer", "cus_x")
    references = {"customer": "cus_x"} if kind == "Invoice" else {}
    row = mirrored(kind, "x_1", references, status="paid", **amounts)
    model = type(row)
    assert shown in text_of(desk.get(address(model, "changelist")))
    page = text_of(desk.get(address(model, "change", row.pk)))
    assert shown in page
    assert f"&quot;currency&quot;: &quot;{currency}&quot;" in page


def test_our_own_invoice_shows_its_currency(desk: Client, furnished: Organization) -> None:
    invoice = Invoice.objects.get()
    assert "1,234 JPY" in text_of(desk.get(address(Invoice, "changelist")))
    assert text_of(desk.get(address(Invoice, "change", invoice.pk))).count("1,234 JPY") == 2


def test_a_call_shows_its_price_by_component(desk: Client, furnished: Organization) -> None:
    call = Call.objects.get(call_id="call_1_3")
    page = text_of(desk.get(address(Call, "change", call.pk)))
    assert re.search(r"elevenlabs_tts: [\d.]+ USD", page)
    strange = Call.objects.get(call_id="call_strange")
    assert "unrated" in text_of(desk.get(address(Call, "change", strange.pk)))


def test_lists_cost_the_same_number_of_queries_however_long(desk: Client, furnished: Organization) -> None:
    for model, _ in PAGES:
        with CaptureQueriesContext(connection) as queries:
            desk.get(address(model, "changelist"))
        assert len(queries) < 18, (model._meta.label, len(queries))


def test_big_tables_are_estimated_and_read_by_the_key(
    desk: Client, furnished: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE ledger_transaction")
    monkeypatch.setattr(read_only, "_COUNTED_EXACTLY", 1)
    with CaptureQueriesContext(connection) as queries:
        assert desk.get(address(Transaction, "changelist")).status_code == 200
    statements = [query["sql"] for query in queries if 'FROM "ledger_transaction"' in query["sql"]]
    assert statements
    assert not any("COUNT(" in sql for sql in statements)
    assert all('ORDER BY "ledger_transaction"."id" DESC' in sql for sql in statements)


def test_calls_are_found_by_their_whole_id_and_never_listed(desk: Client, furnished: Organization) -> None:
    with CaptureQueriesContext(connection) as queries:
        assert "call_1_3" not in text_of(desk.get(address(Call, "changelist")))
    assert not [query["sql"] for query in queries if 'FROM "usage_call"' in query["sql"]]
    assert "call_1_3" in text_of(desk.get(address(Call, "changelist"), {"q": "call_1_3"}))
    assert "call_1_3" not in text_of(desk.get(address(Call, "changelist"), {"q": "call_1_"})).replace("call_1_?", "")


# ── Prices ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def version_form(version: PriceVersion, rate: PriceRate, **fields: object) -> dict[str, Any]:
    return {
        "book": version.book_id,
        "number": version.number,
        "starts_at_0": f"{version.starts_at:%Y-%m-%d}",
        "starts_at_1": f"{version.starts_at:%H:%M:%S}",
        "grace_ms": 0,
        "free_ms": 0,
        "token_threshold": 3500,
        "note": "Autumn",
        "rates-TOTAL_FORMS": 1,
        "rates-INITIAL_FORMS": 1,
        "rates-0-id": rate.pk,
        "rates-0-version": version.pk,
        "rates-0-component": rate.component,
        "rates-0-product": rate.product,
        "rates-0-label": "",
        "rates-0-unit": rate.unit,
        "rates-0-rate_micros": 80_000,
        "rates-0-minimum_ms": 0,
        "rates-0-increment_ms": 1000,
        **fields,
    }


@pytest.fixture
def planned(furnished: Organization) -> tuple[PriceVersion, PriceRate]:
    """A version that is in force from tomorrow on."""
    book = PriceBook.objects.get(reference="parley-usd")
    starts_at = (clock.now() + timedelta(days=1)).replace(microsecond=0)
    version = PriceVersion.objects.create(book=book, number=2, starts_at=starts_at, created_at=clock.now())
    rate = PriceRate.objects.create(
        version=version, component="voice", product="elevenlabs_tts", unit="minute", rate_micros=70_000
    )
    return version, rate


def test_a_price_version_can_be_edited_before_it_is_in_force(
    desk: Client, planned: tuple[PriceVersion, PriceRate]
) -> None:
    version, rate = planned
    answer = desk.post(address(PriceVersion, "change", version.pk), version_form(version, rate))
    assert answer.status_code == 302, text_of(answer)
    version.refresh_from_db()
    rate.refresh_from_db()
    assert (version.note, rate.rate_micros) == ("Autumn", 80_000)


def test_a_price_version_in_force_cannot_be_edited(desk: Client, planned: tuple[PriceVersion, PriceRate]) -> None:
    used = PriceVersion.objects.get(book__reference="parley-usd", number=1)
    unused = PriceVersion.objects.get(book__reference="parley-eur", number=1)
    for version in (used, unused):
        rate = version.rates.first()
        url = address(PriceVersion, "change", version.pk)
        assert desk.get(url).status_code == 200
        assert desk.post(url, version_form(version, rate)).status_code == 403
        rate.refresh_from_db()
        assert rate.rate_micros != 80_000
    assert desk.post(address(PriceVersion, "delete", unused.pk), {"post": "yes"}).status_code == 403


def test_a_price_version_cannot_be_moved_into_the_past_of_a_used_book(
    desk: Client, planned: tuple[PriceVersion, PriceRate]
) -> None:
    version, rate = planned
    form = version_form(version, rate, starts_at_0="2026-01-01")
    answer = desk.post(address(PriceVersion, "change", version.pk), form)
    assert answer.status_code == 200
    assert "a new version starts in the future" in text_of(answer)


def test_a_new_price_version_is_entered_with_its_rates(desk: Client, furnished: Organization) -> None:
    book = PriceBook.objects.get(reference="parley-usd")
    version = PriceVersion(book=book, number=2, starts_at=clock.now() + timedelta(days=1))
    form = version_form(version, PriceRate(component="voice", product="new_voice", unit="minute"))
    form |= {"rates-INITIAL_FORMS": 0, "rates-0-id": "", "rates-0-version": ""}
    assert desk.post(address(PriceVersion, "add"), form).status_code == 302
    assert PriceRate.objects.get(product="new_voice").version.number == 2


def test_currency_and_owner_of_a_book_are_fixed(desk: Client, furnished: Organization) -> None:
    book = PriceBook.objects.get(reference="parley-usd")
    desk.post(address(PriceBook, "change", book.pk), {"name": "Renamed", "currency": "JPY", "is_default": "on"})
    book.refresh_from_db()
    assert (book.name, book.currency) == ("Renamed", "USD")


# ── Actions ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def key_form(desk: Client, **fields: object) -> dict[str, Any]:
    """Return the fields of a new key, with the token that came with the form."""
    page = desk.get(address(ApiKey, "add")).content.decode()
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token
    return {"name": "Export", "scopes": ["usage:read", "billing:read"], "token": token[1], **fields}


def test_an_api_key_shows_its_secret_once_and_keeps_the_digest(desk: Client, acme: Organization) -> None:
    answer = desk.post(address(ApiKey, "add"), key_form(desk, organization=acme.pk))
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    secret = re.search(r"bp_org_[\w-]{43}", answer.content.decode()).group()  # type: ignore[union-attr]
    key = ApiKey.objects.get()
    assert bytes(key.digest) == ApiKey.digest_of(secret)
    assert secret not in str(ApiKey.objects.values().get())
    assert key.created_by is not None
    for url in (address(ApiKey, "changelist"), address(ApiKey, "change", key.pk), address(ApiKey, "history", key.pk)):
        assert secret not in desk.get(url).content.decode()


def test_a_secret_travels_in_no_cookie_header_or_session(desk: Client, acme: Organization) -> None:
    answer = desk.post(address(ApiKey, "add"), key_form(desk, organization=acme.pk))
    secret = re.search(r"bp_org_[\w-]{43}", answer.content.decode()).group()  # type: ignore[union-attr]
    random = secret.removeprefix(ApiKey.objects.get().prefix)
    assert random not in f"{answer.headers} {answer.cookies}"
    assert random not in f"{dict(desk.session)}"


def test_f27_a_form_sent_twice_makes_one_key_and_leads_to_it(desk: Client, acme: Organization) -> None:
    for organization in (acme.pk, ""):
        form = key_form(desk, organization=organization)
        assert desk.post(address(ApiKey, "add"), form).status_code == 200
        again = desk.post(address(ApiKey, "add"), form, follow=True)
        key = ApiKey.objects.get(organization=organization or None)
        assert again.redirect_chain == [(address(ApiKey, "change", key.pk), 302)]
        assert "has been made already" in text_of(again)


def test_an_organization_s_key_cannot_write(desk: Client, acme: Organization) -> None:
    answer = desk.post(address(ApiKey, "add"), key_form(desk, organization=acme.pk, scopes=["calls:write"]))
    assert "A key of an organization only reads." in text_of(answer)
    assert not ApiKey.objects.exists()


def test_keys_are_revoked_and_not_edited(desk: Client, furnished: Organization) -> None:
    key = ApiKey.objects.get()
    assert desk.post(address(ApiKey, "change", key.pk), {"name": "Other"}).status_code == 403
    desk.post(address(ApiKey, "changelist"), {"action": "revoke", "_selected_action": key.pk})
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert key.name == "Export"


def test_an_event_can_be_replayed(desk: Client, furnished: Organization) -> None:
    event = InboxEvent.objects.get()
    InboxEvent.objects.filter(pk=event.pk).update(state="parked", reason="No such invoice.")
    desk.post(address(InboxEvent, "changelist"), {"action": "replay", "_selected_action": event.pk})
    event.refresh_from_db()
    assert (event.state, event.reason) == ("received", "")


def test_unrated_calls_are_rated_once_they_have_a_price(desk: Client, furnished: Organization) -> None:
    waiting = UnratedCall.objects.get()
    answer = desk.post(
        address(UnratedCall, "changelist"), {"action": "rate_now", "_selected_action": waiting.pk}, follow=True
    )
    assert "0 calls were rated" in text_of(answer)


def test_a_refused_call_is_given_to_its_organization_and_recorded(desk: Client, furnished: Organization) -> None:
    held = HeldCall.objects.get()
    assert (held.state, held.field) == ("refused", "call_status")
    body = json.loads(bytes(held.body)) | {
        "call_status": "ended",
        "start_timestamp": "2026-08-03T10:00:00Z",
        "duration_ms": 1000,
    }
    HeldCall.objects.update(body=json.dumps(body).encode())
    again = {"action": "record_again", "_selected_action": held.pk}
    answer = desk.post(address(HeldCall, "changelist"), again, follow=True)
    assert "1 of those selected are still refused" in text_of(answer)
    assert HeldCall.objects.get().field == "organization"
    desk.post(address(HeldCall, "change", held.pk), {"organization": "acme", "call_id": "another"})
    held.refresh_from_db()
    assert (held.organization, held.call_id) == ("acme", "call_of_nobody")
    answer = desk.post(address(HeldCall, "changelist"), again, follow=True)
    assert "0 of those selected are still refused" in text_of(answer)
    assert Call.objects.filter(organization=furnished, call_id="call_of_nobody").exists()


def test_a_call_that_waits_is_left_alone_and_a_refused_one_may_be_dropped(
    desk: Client, furnished: Organization
) -> None:
    held = HeldCall.objects.get()
    HeldCall.objects.update(state="waiting")
    assert desk.post(address(HeldCall, "delete", held.pk), {"post": "yes"}).status_code == 403
    assert desk.post(address(HeldCall, "change", held.pk), {"organization": "acme"}).status_code == 403
    HeldCall.objects.update(state="refused")
    assert desk.post(address(HeldCall, "delete", held.pk), {"post": "yes"}).status_code == 302
    assert not HeldCall.objects.exists()


def test_a_file_of_calls_is_sent_followed_and_its_refusals_fetched(
    desk: Client, furnished: Organization, settings: Any, tmp_path: Any
) -> None:
    settings.IMPORTS_DIR = tmp_path
    ImportJob.objects.all().delete()
    page = address(ImportJob, "add")
    wrong = desk.post(page, {"file": SimpleUploadedFile("calls.zip", b"x"), "organization": ""})
    assert "must end with one of" in text_of(wrong)
    content = (
        b"call_id,call_type,call_status,start_timestamp,duration_ms\n"
        b"imported,web_call,ended,2026-08-03T10:00:00Z,9\nx,,,,\n"
    )
    sent = desk.post(
        page, {"file": SimpleUploadedFile("march.csv", content), "organization": furnished.pk}, follow=True
    )
    assert "was added successfully" in text_of(sent)
    job = ImportJob.objects.get()
    assert (job.name, job.organization, job.asked_by.email) == ("march.csv", furnished, "sam@desk.example")
    imports.run(job.pk, clock=lambda: SETTLED)
    assert Call.objects.filter(organization=furnished, call_id="imported").exists()
    shown = desk.get(address(ImportJob, "change", job.pk))
    assert "1 items, as CSV" in text_of(shown)
    link = re.search(r'href="([^"]+/refusals/)"', shown.content.decode())
    assert link
    assert b"rejected" in b"".join(desk.get(link[1]).streaming_content)
    assert desk.post(address(ImportJob, "change", job.pk), {"name": "x"}).status_code == 403


def test_an_import_can_be_stopped(desk: Client, furnished: Organization) -> None:
    job = ImportJob.objects.get()
    desk.post(address(ImportJob, "changelist"), {"action": "cancel", "_selected_action": job.pk})
    job.refresh_from_db()
    assert job.state == "cancelled"


# ── Find ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("alice@acme.example", {"Organization", "User"}),
        ("ALICE@acme.example ", {"Organization", "User"}),
        ("Acme Rob", {"Organization"}),
        ("call_1_3", {"Call"}),
        ("cus_acme", {"Customer"}),
        ("sub_acme", {"Customer"}),
        ("in_acme", {"Invoice", "Inbox event"}),
        ("ACME-0001", {"Invoice"}),
        ("pm_acme", {"Payment method"}),
        ("evt_1", {"Inbox event"}),
        ("finalize:1", {"Intent"}),
        ("report-1", {"Report"}),
        ("welcome", {"Grant"}),
        ("nothing like it", set()),
        ("", set()),
    ],
)
def test_find(desk: Client, furnished: Organization, text: str, kinds: set[str]) -> None:
    answer = desk.get("/staff/find/", {"q": text})
    assert answer.status_code == 200
    assert {found.kind for found in answer.context["found"]} == kinds
    for found in answer.context["found"]:
        assert desk.get(found.url).status_code == 200


def test_only_staff_find(client: Client, alice: Any) -> None:
    client.force_login(alice)
    assert client.get("/staff/find/", {"q": "acme"}).status_code == 302


# ── Trace ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_traced_whosever_it_is(desk: Client, furnished: Organization, other: Organization) -> None:
    rejected = [Rejected(each.pk, "call_1_3", 4, "duration_ms", "Expected `int`.") for each in (furnished, other)]
    intake_log.note(rejected, [Repeated(furnished.pk, "call_1_3", False)], now=clock.now())
    page = text_of(desk.get("/staff/trace/", {"id": " call_1_3 "}))
    assert "Acme Robotics: funded" in page
    assert "Number 4, billed in 2026-08" in page
    assert "Duplicate, 1 time" in page
    assert "Other Inc: rejected" in page
    assert "duration_ms : Expected `int`. Item 4 of its request" in page
    found = desk.get("/staff/find/", {"q": "call_1_3"}).context["found"]
    assert [(each.kind, each.belongs_to) for each in found] == [("Call", "Acme Robotics"), ("Call", "Other Inc")]


@pytest.mark.parametrize("call_id", ["call_nowhere", "x" * 400, "a\x00b"])
def test_an_id_that_nobody_knows_says_so(desk: Client, furnished: Organization, call_id: str) -> None:
    assert "No organization knows" in text_of(desk.get("/staff/trace/", {"id": call_id}))


def test_only_staff_trace_for_all_organizations(client: Client, alice: Any) -> None:
    client.force_login(alice)
    assert client.get("/staff/trace/", {"id": "call_1_3"}).status_code == 302
