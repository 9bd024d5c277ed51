"""One's own log on the pages: sent, understood, compared, fetched, and disputed as a whole."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute
from billing_portal.ledger import accounts
from tests.portal.test_pages import text_of
from tests.usage.test_comparisons import COLUMNS, _folder, as_csv, as_rows, compared, ours, used  # noqa: F401 - fixtures
from usage.comparisons import jobs
from usage.models import Comparison

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def customer(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def address(name, organization, *parts):
    return reverse(name, args=[organization.public_id, *parts])


def send(customer, organization, content, **days):
    days = {"starts_date": "2026-10-15", "ends_date": "2026-10-15", **days}
    file = SimpleUploadedFile("october.csv", content)
    return customer.post(address("comparison_new", organization), {"file": file, **days}, follow=True)


def test_from_the_file_to_the_dispute(customer, used, alice, now):  # noqa: F811
    log = ours(used)
    gone, *_ = sorted(log, key=lambda name: -log[name][1])
    theirs = {name: values for name, values in log.items() if name != gone}
    page = send(customer, used, as_csv(as_rows(theirs.items())).encode("utf-16"))
    assert "read as UTF-16" in text_of(page)
    assert "call_1_7" in text_of(page)
    kept = Comparison.objects.get()
    form = page.context["form"]
    chosen = {name: form[name].value() for name in form.fields}
    assert (chosen["call_id"], chosen["duration"], chosen["price"]) == ("Call ID", "Seconds", "Price")
    page = customer.post(address("comparison_start", used, kept.public_id), chosen, follow=True)
    assert "Waiting" in text_of(page)
    assert customer.post(address("comparison_start", used, kept.public_id), chosen).status_code == 302
    jobs.run(kept.pk, clock=lambda: now)
    page = customer.get(address("comparison", used, kept.public_id))
    shown = {each["name"]: each["total"].calls for each in page.context["classes"]}
    assert shown == {"exact": 7, "within": 0, "mismatch": 0, "missing_here": 0, "missing_there": 1}
    file = customer.get(address("comparison_csv", used, kept.public_id, "missing_there"))
    assert gone in b"".join(file.streaming_content).decode()
    assert 'filename="october-missing-there.csv"' in file["Content-Disposition"]
    assert f"kind=comparison&amp;reference={kept.public_id}%2Fmissing_there" in page.content.decode()

    accounts.open(organization=used, now=now)
    link = f"{address('dispute_new', used)}?kind=comparison&reference={kept.public_id}/missing_there"
    form = customer.get(link).context["form"]
    data = {name: form[name].value() or "" for name in form.fields} | {"reason": "never_happened", "text": "No call."}
    page = customer.post(link, data, follow=True)
    dispute = Dispute.objects.get()
    assert dispute.claimed_micros == log[gone][1]
    assert "1 call of 2026-10-15, compared with your log: not in your log" in text_of(page)
    cases.grant(dispute, micros=dispute.claimed_micros, decision="Right", by=alice, now=now)
    with pytest.raises(cases.NotDisputable):
        _again(used, dispute, alice, now)


def _again(organization, dispute, by, now):
    return cases.open(
        organization=organization,
        kind=dispute.kind,
        reference=dispute.reference,
        reason="other",
        text="Once more",
        claimed_micros=1,
        public_id=organization.public_id,
        by=by,
        now=now,
    )


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7\x00\x00\x01", b"PK\x03\x04", b"only a header\n"])
def test_what_is_no_log_is_answered_in_words(customer, used, content):  # noqa: F811
    page = send(customer, used, content)
    assert page.status_code == 200
    assert page.context["form"].errors["file"]
    assert not Comparison.objects.exists()


def test_500_megabytes_are_refused_by_their_announced_length(customer, used):  # noqa: F811
    page = customer.generic(
        "POST",
        address("comparison_new", used),
        b"--x\r\n",
        content_type="multipart/form-data; boundary=x",
        headers={"content-length": str(500 * 1024**2)},
    )
    assert page.status_code == 413
    assert "You sent 500 MB, and at most 300 MB are taken. Nothing was kept" in text_of(page)
    assert not Comparison.objects.exists()


def test_days_the_wrong_way_round_are_answered_in_words(customer, used):  # noqa: F811
    page = send(customer, used, b"id\n1\n", ends_date="2026-10-14")
    assert "The last day is before the first." in text_of(page)


def test_what_failed_can_be_tried_again_with_the_file_that_is_there(customer, used, alice, now, monkeypatch):  # noqa: F811
    monkeypatch.setattr(jobs, "MOST_ROWS", 7)
    failed = compared(used, alice, now, as_csv(as_rows(ours(used).items())).encode())
    page = customer.get(address("comparison", used, failed.public_id))
    assert "Send it in parts" in text_of(page)
    assert page.context["form"]["call_id"].value() == COLUMNS.call_id


def test_a_removed_file_leaves_the_totals(customer, used, alice, now):  # noqa: F811
    done = compared(used, alice, now, as_csv(as_rows(ours(used).items())).encode())
    customer.post(address("comparison_remove", used, done.public_id))
    page = customer.get(address("comparison", used, done.public_id))
    assert "The files are removed" in text_of(page)
    assert page.context["classes"][0]["total"].calls == 8
    assert customer.get(address("comparison_csv", used, done.public_id, "exact")).status_code == 404


def test_a_label_names_the_class_of_the_customers_view(used, alice, now):  # noqa: F811
    done = compared(used, alice, now, as_csv(as_rows(list(ours(used).items())[:7])).encode())
    assert subjects.find(used, "comparison", f"{done.public_id}/missing_there").amount_micros > 0
    for reference in (f"{done.public_id}/nonsense", "nonsense/missing_there"):
        with pytest.raises(subjects.SubjectMissing):
            subjects.find(used, "comparison", reference)
