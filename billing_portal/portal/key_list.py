"""API keys as the developer page shows them: what each may do, who made it, and how it stands."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.urls import reverse

from accounts.models import ApiKey, ApiKeyQuerySet, Organization, User

_SOON = timedelta(days=14)
_ENDED_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key with its state in words. `replacement` is the key that took its place, be it revoked since."""

    key: ApiKey
    state: str
    tone: str
    is_usable: bool
    is_replaced: bool
    replacement: ApiKey | None
    ended_at: datetime | None
    made_by: str
    revoked_by: str
    scopes: list[str]


def keys_of(organization: Organization, *, now: datetime) -> tuple[list[ShownKey], list[ShownKey]]:
    """Return the keys that work, the newest first, and those that ended last."""
    rows = _rows(organization)
    usable = [shown(key, now=now) for key in rows.usable(now=now).order_by("-id")]
    ended = rows.exclude(pk__in=[each.key.pk for each in usable]).order_by("-id")[:_ENDED_SHOWN]
    return usable, [shown(key, now=now) for key in ended]


def find(organization: Organization, public_id: UUID) -> ApiKey | None:
    """Return the organization's key of that id."""
    return _rows(organization).filter(public_id=public_id).first()


def shown(key: ApiKey, *, now: datetime) -> ShownKey:
    """Return the key with its state in words."""
    replacement = max(key.replacements.all(), key=lambda newer: newer.pk, default=None)
    is_replaced = replacement is not None and replacement.is_usable(now=now)
    state, tone = _state(key, replacement, now=now)
    return ShownKey(
        key=key,
        state=state,
        tone=tone,
        is_usable=key.is_usable(now=now),
        is_replaced=is_replaced,
        replacement=replacement,
        ended_at=min((at for at in (key.revoked_at, key.expires_at) if at), default=None),
        made_by=_person(key.created_by),
        revoked_by=_person(key.revoked_by) if key.revoked_at else "",
        scopes=[ApiKey.Scope(scope).label for scope in key.scopes],
    )


def example(key: ApiKey) -> str:
    """Return a request with the key, as one types it; the secret is cut to what is known of it."""
    address = f"{settings.BASE_URL}{reverse('api-usage')}"
    return f'curl {address} \\\n  -H "Authorization: Bearer {key.prefix}…"'


def _rows(organization: Organization) -> ApiKeyQuerySet:
    keys = ApiKey.objects.filter(organization=organization)
    return keys.select_related("created_by", "revoked_by", "replaces").prefetch_related("replacements")


def _state(key: ApiKey, replacement: ApiKey | None, *, now: datetime) -> tuple[str, str]:
    """Return the state and its tone."""
    if key.revoked_at:
        return "Revoked", "neutral"
    if not key.is_usable(now=now):
        return ("Replaced" if replacement else "Expired"), "neutral"
    if replacement and replacement.is_usable(now=now):
        return "Being replaced", "warn"
    if key.expires_at and key.expires_at - now < _SOON:
        return "Expires soon", "warn"
    return "Works", "good"


def _person(user: User | None) -> str:
    """Return who did it. Of the vendor's people, customers read no names."""
    if user is None or user.is_staff:
        return settings.VENDOR_NAME
    return user.get_full_name()
