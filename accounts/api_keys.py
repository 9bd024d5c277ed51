"""Keys of programs: issue, revoke, and recognize one on a request."""

from datetime import datetime, timedelta

from accounts.models import ApiKey, Organization

_USED_RESOLUTION = timedelta(minutes=5)


class ScopeNotAllowed(Exception):
    """An organization's key only reads."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"A key of an organization may not have the scope {scope}.")
        self.scope = scope


def issue(
    *,
    organization: Organization | None,
    name: str,
    scopes: list[str],
    now: datetime,
    expires_at: datetime | None = None,
    secret: str | None = None,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret, which is shown this once.

    Without an organization it is a vendor key. `secret` is given only where it must be known ahead, as in
    the demo. Raises ScopeNotAllowed for an organization's key that would write.
    """
    if organization is not None and (refused := [scope for scope in ApiKey.VENDOR_SCOPES if scope in scopes]):
        raise ScopeNotAllowed(refused[0])
    secret = secret or ApiKey.new_secret(vendor=organization is None)
    key = ApiKey.objects.create(
        organization=organization,
        name=name,
        prefix=secret[:12],
        digest=ApiKey.digest_of(secret),
        scopes=scopes,
        created_at=now,
        expires_at=expires_at,
    )
    return key, secret


def revoke(key: ApiKey, *, now: datetime) -> None:
    """End a key; the next request with it is refused. Revoking twice changes nothing."""
    ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now)


def recognize(secret: str, *, now: datetime) -> ApiKey | None:
    """Return the usable key behind `secret`, or None; note its use, at most once in five minutes."""
    key = ApiKey.objects.usable(now=now).select_related("organization").filter(digest=ApiKey.digest_of(secret)).first()
    if key and (key.last_used_at is None or now - key.last_used_at > _USED_RESOLUTION):
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key
