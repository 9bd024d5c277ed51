"""Keys of programs: issue, change, rotate, revoke, and recognize one on a request."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import IntegrityError, connection, transaction

from accounts.models import ApiKey, Organization, User
from accounts.phrased import Columns

logger = structlog.get_logger(__name__)

# What an organization's key may have: it only reads.
ORGANIZATION_SCOPES = [scope for scope in ApiKey.Scope if scope not in ApiKey.VENDOR_SCOPES]
MAX_USABLE = 50
_USED_RESOLUTION = timedelta(minutes=5)


class ScopeNotAllowed(Exception):
    """An organization's key only reads."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"A key of an organization may not have the scope {scope}.")
        self.scope = scope


class AlreadyIssued(Exception):
    """This form has made its key already. Its secret was in the first answer and is known to nobody else."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__("This key has been made already. Its secret was shown once and cannot be shown again.")
        self.key = key


class KeyEnded(Exception):
    """The key is revoked or expired; it stays as it is."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__(f"{key} is revoked or expired and does not work any more. Make a new key instead.")
        self.key = key


class AlreadyRotated(Exception):
    """Another key has taken this one's place; that one is the one to rotate."""

    def __init__(self, replacement: ApiKey) -> None:
        super().__init__(f"{replacement} has taken the place of this key. Rotate that one, or revoke this one.")
        self.replacement = replacement


class TooManyKeys(Exception):
    """An organization has a bounded number of keys that work."""

    def __init__(self) -> None:
        super().__init__(f"There are {MAX_USABLE} keys that work. Revoke one that is not needed any more.")


@transaction.atomic
def issue(
    *,
    organization: Organization | None,
    name: str,
    scopes: list[str],
    now: datetime,
    expires_at: datetime | None = None,
    by: User | None = None,
    token: UUID | None = None,
    secret: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is shown this once.

    Without an organization it is a vendor key. `token` is minted with a form, so that a double submit makes one
    key. `secret` is given only where it must be known ahead, as in the demo. Raises ScopeNotAllowed for an
    organization's key that would write, AlreadyIssued and TooManyKeys.
    """
    if organization is not None:
        # Two requests may not both take the last place.
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    _refuse_repeat(organization, token)
    if organization is not None and organization.api_keys.usable(now=now).count() >= MAX_USABLE:
        raise TooManyKeys
    return _create(
        organization=organization,
        name=name,
        scopes=scopes,
        expires_at=expires_at,
        created_at=now,
        created_by=by,
        form_token=token,
        secret=secret,
    )


@transaction.atomic
def rotate(
    key: ApiKey,
    *,
    old_expires_at: datetime,
    now: datetime,
    expires_at: datetime | None = None,
    by: User | None = None,
    token: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key of the same name and scopes, and let the old one expire at `old_expires_at`, if not sooner.

    Return the new key with its secret. Until then both work, so that programs can be moved one by one.
    Raises KeyEnded, AlreadyRotated and AlreadyIssued.
    """
    old = _lock(key)
    _refuse_repeat(old.organization, token)
    if not old.is_usable(now=now):
        raise KeyEnded(old)
    if replacement := ApiKey.objects.usable(now=now).filter(replaces=old).first():
        raise AlreadyRotated(replacement)
    ends_at = max(old_expires_at, now)
    old.expires_at = min(old.expires_at or ends_at, ends_at)
    old.save(update_fields=["expires_at"])
    return _create(
        organization=old.organization,
        name=old.name,
        scopes=old.scopes,
        expires_at=expires_at,
        replaces=old,
        created_at=now,
        created_by=by,
        form_token=token,
    )


@transaction.atomic
def change(key: ApiKey, *, name: str, scopes: list[str], expires_at: datetime | None, now: datetime) -> ApiKey:
    """Give a key another name, scopes or end, from the next request on. Raises KeyEnded and ScopeNotAllowed."""
    locked = _lock(key)
    if not locked.is_usable(now=now):
        raise KeyEnded(locked)
    _refuse_scopes(locked.organization, scopes)
    locked.name, locked.scopes, locked.expires_at = name, scopes, expires_at
    locked.save(update_fields=["name", "scopes", "expires_at"])
    logger.info("api_key_changed", key=locked.pk, scopes=scopes)
    return locked


def revoke(key: ApiKey, *, now: datetime, by: User | None = None) -> None:
    """End a key; the next request with it is refused. Revoking twice changes nothing."""
    if ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now, revoked_by=by):
        logger.info("api_key_revoked", key=key.pk)


_KEY, _ORGANIZATION = Columns(ApiKey, "k"), Columns(Organization, "o")
# Every request of the API asks this, and for the platform's a caller waits.
_USABLE = f"""
    SELECT {_KEY.sql}, {_ORGANIZATION.sql}
    FROM accounts_apikey k LEFT JOIN accounts_organization o ON o.id = k.organization_id
    WHERE k.digest = %s AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > %s)"""  # noqa: S608 - the columns are models'


def recognize(secret: str, *, now: datetime) -> ApiKey | None:
    """Return the usable key behind `secret`, or None; note its use, at most once in five minutes."""
    key = _usable(ApiKey.digest_of(secret), now)
    if key and (key.last_used_at is None or now - key.last_used_at > _USED_RESOLUTION):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def _usable(digest: bytes, now: datetime) -> ApiKey | None:
    """Return the key with its organization, as `ApiKey.objects.usable` would."""
    with connection.cursor() as cursor:
        cursor.execute(_USABLE, [digest, now])
        row = cursor.fetchone()
    if row is None:
        return None
    key = _KEY.read(row[: _KEY.count])
    if key.organization_id is not None:
        key.organization = _ORGANIZATION.read(row[_KEY.count :])
    return key


def _create(
    *, organization: Organization | None, scopes: list[str], secret: str | None = None, **fields: Any
) -> tuple[ApiKey, str]:
    _refuse_scopes(organization, scopes)
    secret = secret or ApiKey.new_secret(vendor=organization is None)
    digest = ApiKey.digest_of(secret)
    try:
        with transaction.atomic():
            key = ApiKey.objects.create(
                organization=organization, scopes=scopes, prefix=secret[:12], digest=digest, **fields
            )
    except IntegrityError:
        # No lock orders the vendor's forms: the constraint has the last word.
        _refuse_repeat(organization, fields["form_token"])
        raise
    logger.info("api_key_issued", key=key.pk, organization=organization and str(organization.public_id), scopes=scopes)
    return key, secret


def _refuse_repeat(organization: Organization | None, token: UUID | None) -> None:
    made = token and ApiKey.objects.filter(organization=organization, form_token=token).first()
    if made:
        raise AlreadyIssued(made)


def _refuse_scopes(organization: Organization | None, scopes: list[str]) -> None:
    if organization is not None and (refused := [scope for scope in ApiKey.VENDOR_SCOPES if scope in scopes]):
        raise ScopeNotAllowed(refused[0])


def _lock(key: ApiKey) -> ApiKey:
    return ApiKey.objects.select_related("organization").select_for_update(of=("self",)).get(pk=key.pk)
