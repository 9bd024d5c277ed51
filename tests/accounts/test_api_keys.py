"""Keys of programs."""

import base64
import hashlib
import math
from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from accounts import api_keys
from accounts.models import ApiKey, Organization

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


def test_two_keys_overlap_so_that_one_can_be_rotated(acme: Organization, now: datetime) -> None:
    old, old_secret = api_keys.issue(organization=acme, name="Old", scopes=[READ], now=now)
    _, new_secret = api_keys.issue(organization=acme, name="New", scopes=[READ], now=now)
    assert api_keys.recognize(old_secret, now=now)
    assert api_keys.recognize(new_secret, now=now)
    api_keys.revoke(old, now=now)
    assert api_keys.recognize(old_secret, now=now) is None
    assert api_keys.recognize(new_secret, now=now)


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
