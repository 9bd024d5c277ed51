"""Keys of programs."""

import base64
import hashlib
import math
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from accounts import api_keys
from accounts.models import ApiKey, Organization, User

pytestmark = pytest.mark.django_db
READ = ApiKey.Scope.USAGE_READ
WRITE = ApiKey.Scope.CALLS_WRITE


def test_a_secret_has_at_least_128_random_bits() -> None:
    secrets = [ApiKey.new_secret(vendor=True) for _ in range(200)]
    raw = [base64.urlsafe_b64decode(secret.removeprefix("bp_vendor_") + "=") for secret in secrets]
    assert all(len(random) * 8 >= 128 for random in raw)
    assert len(set(raw)) == 200
    counts = Counter(byte for random in raw for byte in random)
    total = counts.total()
    entropy_per_byte = -sum(n / total * math.log2(n / total) for n in counts.values())
    assert entropy_per_byte > 7.9


def test_only_the_sha256_of_a_key_is_stored(acme: Organization, now: datetime) -> None:
    key, secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    stored = ApiKey.objects.filter(pk=key.pk).values().get()
    assert bytes(stored["digest"]) == hashlib.sha256(secret.encode()).digest()
    assert not any(secret in str(value) for value in stored.values())
    assert secret.startswith(stored["prefix"])
    assert len(secret) - len(stored["prefix"]) >= 32


def test_an_issued_key_is_recognized_with_its_organization(acme: Organization, now: datetime) -> None:
    key, secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    found = api_keys.recognize(secret, now=now)
    assert found == key
    assert found.organization == acme


def test_an_unknown_key_is_not_recognized(now: datetime) -> None:
    assert api_keys.recognize(ApiKey.new_secret(vendor=False), now=now) is None
    assert api_keys.recognize("", now=now) is None


def test_a_revoked_key_is_refused_on_the_next_request(acme: Organization, now: datetime) -> None:
    key, secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    api_keys.revoke(key, now=now)
    assert api_keys.recognize(secret, now=now) is None


def test_revoking_twice_keeps_the_first_instant(acme: Organization, now: datetime) -> None:
    key, _ = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    api_keys.revoke(key, now=now)
    api_keys.revoke(key, now=now + timedelta(hours=1))
    key.refresh_from_db()
    assert key.revoked_at == now


def test_a_key_is_refused_from_the_instant_it_expires(acme: Organization, now: datetime) -> None:
    until = now + timedelta(days=1)
    _, secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now, expires_at=until)
    assert api_keys.recognize(secret, now=until - timedelta(microseconds=1)) is not None
    assert api_keys.recognize(secret, now=until) is None


def test_a_rotated_key_and_its_successor_overlap_until_the_chosen_time(acme: Organization, now: datetime) -> None:
    old, old_secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    until = now + timedelta(hours=24)
    new, new_secret = api_keys.rotate(old, old_expires_at=until, now=now)
    assert (new.name, new.scopes, new.organization, new.replaces) == ("Export", [READ], acme, old)
    for secret in (old_secret, new_secret):
        assert api_keys.recognize(secret, now=until - timedelta(microseconds=1))
    assert api_keys.recognize(old_secret, now=until) is None
    assert api_keys.recognize(new_secret, now=until) == new


def test_a_rotation_without_overlap_ends_the_old_key_at_once(acme: Organization, now: datetime) -> None:
    old, old_secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    api_keys.rotate(old, old_expires_at=now - timedelta(days=1), now=now)
    old.refresh_from_db()
    assert old.expires_at == now
    assert api_keys.recognize(old_secret, now=now) is None


def test_a_rotation_never_prolongs_the_old_key(acme: Organization, now: datetime) -> None:
    sooner = now + timedelta(hours=1)
    old, _ = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now, expires_at=sooner)
    api_keys.rotate(old, old_expires_at=now + timedelta(days=7), now=now)
    old.refresh_from_db()
    assert old.expires_at == sooner


def test_a_key_is_rotated_once_while_its_successor_works(acme: Organization, now: datetime) -> None:
    old, _ = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    later = now + timedelta(days=1)
    new, _ = api_keys.rotate(old, old_expires_at=later, now=now)
    with pytest.raises(api_keys.AlreadyRotated) as refused:
        api_keys.rotate(old, old_expires_at=later, now=now)
    assert refused.value.replacement == new
    api_keys.revoke(new, now=now)
    assert api_keys.rotate(old, old_expires_at=later, now=now)


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_an_ended_key_is_neither_rotated_nor_changed(acme: Organization, now: datetime, how: str) -> None:
    key, _ = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    ended = {"revoked": {"revoked_at": now}, "expired": {"expires_at": now}}[how]
    ApiKey.objects.filter(pk=key.pk).update(**ended)
    with pytest.raises(api_keys.KeyEnded):
        api_keys.rotate(key, old_expires_at=now, now=now)
    with pytest.raises(api_keys.KeyEnded):
        api_keys.change(key, name="Alive", scopes=[READ], expires_at=None, now=now)
    assert ApiKey.objects.get().name == "Export"


def test_a_change_counts_from_the_next_request_on(acme: Organization, now: datetime) -> None:
    key, secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    until = now + timedelta(days=1)
    api_keys.change(key, name="Finance", scopes=["billing:read"], expires_at=until, now=now)
    found = api_keys.recognize(secret, now=now)
    assert found is not None
    assert (found.name, found.scopes, found.expires_at) == ("Finance", ["billing:read"], until)
    with pytest.raises(api_keys.ScopeNotAllowed):
        api_keys.change(key, name="Writer", scopes=[WRITE], expires_at=None, now=now)


def test_f27_a_form_sent_twice_makes_one_key(acme: Organization, other: Organization, now: datetime) -> None:
    token = uuid.uuid4()
    key, _ = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now, token=token)
    with pytest.raises(api_keys.AlreadyIssued) as repeated:
        api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now, token=token)
    assert repeated.value.key == key
    # Another organization's token means nothing here.
    assert api_keys.issue(organization=other, name="Export", scopes=[READ], now=now, token=token)
    again = uuid.uuid4()
    api_keys.rotate(key, old_expires_at=now, now=now, token=again)
    with pytest.raises(api_keys.AlreadyIssued):
        api_keys.rotate(key, old_expires_at=now, now=now, token=again)
    assert acme.api_keys.count() == 2


@pytest.mark.django_db(transaction=True)
def test_f27_of_one_form_sent_at_once_one_key_is_made(acme: Organization, now: datetime) -> None:
    token, start = uuid.uuid4(), threading.Barrier(6)

    def submit(organization: Organization | None) -> bool:
        start.wait()
        try:
            api_keys.issue(organization=organization, name="Export", scopes=[READ], now=now, token=token)
        except api_keys.AlreadyIssued:
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(submit, [acme, None] * 3))
    assert sum(made) == ApiKey.objects.count() == 2


def test_an_organization_has_a_bounded_number_of_keys_that_work(
    acme: Organization, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "MAX_USABLE", 2)
    key, _ = api_keys.issue(organization=acme, name="One", scopes=[READ], now=now)
    api_keys.issue(organization=acme, name="Two", scopes=[READ], now=now)
    with pytest.raises(api_keys.TooManyKeys):
        api_keys.issue(organization=acme, name="Three", scopes=[READ], now=now)
    api_keys.revoke(key, now=now)
    assert api_keys.issue(organization=acme, name="Three", scopes=[READ], now=now)


def test_a_key_knows_who_made_and_who_revoked_it(acme: Organization, alice: User, bob: User, now: datetime) -> None:
    key, _ = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now, by=alice)
    api_keys.revoke(key, now=now, by=bob)
    api_keys.revoke(key, now=now, by=alice)
    key.refresh_from_db()
    assert (key.created_by, key.revoked_by) == (alice, bob)


def test_the_use_of_a_key_is_noted_at_most_once_in_five_minutes(acme: Organization, now: datetime) -> None:
    key, secret = api_keys.issue(organization=acme, name="Export", scopes=[READ], now=now)
    for minutes, noted in [(0, 0), (4, 0), (6, 6)]:
        api_keys.recognize(secret, now=now + timedelta(minutes=minutes))
        key.refresh_from_db()
        assert key.last_used_at == now + timedelta(minutes=noted)


@pytest.mark.parametrize("scope", ApiKey.VENDOR_SCOPES)
def test_a_key_of_an_organization_only_reads(scope: str, acme: Organization, now: datetime) -> None:
    with pytest.raises(api_keys.ScopeNotAllowed):
        api_keys.issue(organization=acme, name="Writer", scopes=[READ, scope], now=now)
    key, _ = api_keys.issue(organization=acme, name="Reader", scopes=[READ], now=now)
    with pytest.raises(IntegrityError, match="api_key_of_an_organization_only_reads"), transaction.atomic():
        ApiKey.objects.filter(pk=key.pk).update(scopes=[scope])


def test_a_vendor_key_may_write(now: datetime) -> None:
    key, secret = api_keys.issue(organization=None, name="Platform", scopes=[WRITE], now=now)
    assert secret.startswith("bp_vendor_")
    assert key.organization is None
