"""A receipt as people and programs get it: the file in the background, its page, the API, the proof of one call."""

import json
import struct
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from accounts import api_keys
from accounts.models import ApiKey, User
from billing_portal.billing import month_end
from billing_portal.billing.models import Invoice, ReceiptFile
from billing_portal.billing.receipts import jobs, keys, verify_receipt
from billing_portal.ledger.models import Grant
from tests.billing.receipts.conftest import verify, verify_call
from tests.billing.world import CLOSING, invoice_of
from tests.conftest import join

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def invoice(used: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> Invoice:
    """A paid invoice of February with 30 calls; it is 1 March."""
    settings.EXPORTS_DIR = tmp_path / "exports"
    monkeypatch.setattr("accounts.clock.now", lambda: CLOSING)
    organization = used("acme", calls=30, credit_micros=1_000_000)
    drafted = invoice_of(organization)
    assert month_end.advance(drafted, now=CLOSING)
    drafted.refresh_from_db()
    return drafted


def write(file: ReceiptFile) -> ReceiptFile:
    jobs.write(file.pk, clock=lambda: CLOSING)
    file.refresh_from_db()
    return file


def test_i12_a_file_is_made_once_says_what_is_known_and_never_what_was_not_signed(invoice: Invoice) -> None:
    first = jobs.ask(invoice, now=CLOSING)
    assert jobs.ask(invoice, now=CLOSING).pk == first.pk
    # A worker that is gone is noticed by the database's clock.
    ReceiptFile.objects.filter(pk=first.pk).update(state="writing", lease=first.public_id, touched_at=Now())
    assert jobs.abandoned(limit=5) == []
    ReceiptFile.objects.filter(pk=first.pk).update(touched_at=Now() - timedelta(hours=1))
    assert jobs.abandoned(limit=5) == [first.pk]
    assert write(first).state == "ready"
    assert verify(jobs.path_of(first)).verified
    assert jobs.ask(invoice, now=CLOSING).pk == first.pk
    # Money that moved is one more record, so the file is made again.
    Invoice.objects.filter(pk=invoice.pk).update(post_credited_minor=5)
    invoice.refresh_from_db()
    second = jobs.ask(invoice, now=CLOSING)
    assert second.pk != first.pk
    assert write(second).payments == 2
    assert verify(jobs.path_of(second)).verified
    assert jobs.expire(now=CLOSING + timedelta(days=30)) == 2
    assert jobs.newest_ready(invoice) is None
    # Whatever was signed and reads otherwise now is refused, not packed.
    Grant.objects.filter(organization=invoice.organization).update(reason="Another reason")
    third = write(jobs.ask(invoice, now=CLOSING))
    assert (third.state, "grants.jsonl is not what was signed" in third.failure) == ("failed", True)
    assert not jobs.path_of(third).exists()


def test_a_file_is_the_same_whatever_headers_pythons_zipfile_writes(
    invoice: Invoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As 3.11.2 writes them, which is Debian 12's: version 20, and the sizes in their old places too.
    old = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, 0, 0, 0, 0)
    monkeypatch.setattr(zipfile.ZipInfo, "FileHeader", lambda *_: old)
    file = write(jobs.ask(invoice, now=CLOSING))
    assert verify(jobs.path_of(file)).verified


def test_pages_and_the_api_give_the_receipt_and_the_proof_of_a_call(
    invoice: Invoice, make_user: Callable[..., User], tmp_path: Path
) -> None:
    owner = make_user("olivia@acme.example")
    join(invoice.organization, owner, "owner")
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    page = f"/o/{invoice.organization.public_id}/invoices/{invoice.public_id}/receipt/"
    assert "Make the receipt" in client.get(page).content.decode()
    assert client.post(f"{page}new/").status_code == 302
    file = ReceiptFile.objects.get()
    if file.is_under_way:
        assert "Being made" in client.get(page, headers={"HX-Request": "true"}).content.decode()
        write(file)
    shown = client.get(page).content.decode()
    assert "Download the receipt" in shown
    assert invoice.receipt.usage_root in shown
    path = tmp_path / "receipt.zip"
    path.write_bytes(b"".join(client.get(f"{page}file/").streaming_content))
    public = keys.published().get().in_hexadecimal
    assert public in Client().get("/receipts/keys/").content.decode()
    assert verify(path, "--root", invoice.receipt.usage_root, "--key", public).verified
    program = b"".join(Client().get("/receipts/verify_receipt.py").streaming_content)
    assert program == Path(verify_receipt.__file__).read_bytes()

    proof = client.get(f"/o/{invoice.organization.public_id}/usage/calls/call_1_7/proof/")
    assert len(proof.content) < 4_096
    scopes = [ApiKey.Scope.USAGE_READ, ApiKey.Scope.BILLING_READ]
    _, secret = api_keys.issue(organization=invoice.organization, name="k", scopes=scopes, now=CLOSING)
    api = Client(headers={"Authorization": f"Bearer {secret}"})
    assert api.get("/api/v1/calls/call_1_7/proof").json() == json.loads(proof.content)
    report = api.get(f"/api/v1/invoices/{invoice.number}/receipt").json()
    assert (report["state"], report["usage_root"]) == ("ready", invoice.receipt.usage_root)
    zipped = api.get(report["file"].removeprefix("http://testserver"))
    assert b"".join(zipped.streaming_content) == path.read_bytes()
    assert api.get("/api/v1/invoices/A-0000/receipt").status_code == 404

    proved = tmp_path / "proof.json"
    proved.write_bytes(proof.content)
    verdict = verify_call(proved, "--root", invoice.receipt.usage_root, "--key", public)
    assert verdict.verified, verdict.text
    for name, value in json.loads(proof.content).items():
        for wrong in _wrong(value):
            proved.write_text(json.dumps(json.loads(proof.content) | {name: wrong}))
            spoilt = verify_call(proved)
            assert not spoilt.verified, (name, wrong)
            assert spoilt.text.startswith("NOT VERIFIED\n")


def _wrong(value: Any) -> list[Any]:
    """Return a value with each of its digits and letters changed in turn, or with a part gone."""
    if isinstance(value, int):
        return [value + 1, value - 1, -1]
    if isinstance(value, dict):
        return [value | {key: wrong} for key, inner in value.items() for wrong in _wrong(inner)]
    places = [place for place in range(0, len(value), 7) if value[place].isalnum()]
    return [value[:place] + ("x" if value[place] != "x" else "y") + value[place + 1 :] for place in places] + [""]
