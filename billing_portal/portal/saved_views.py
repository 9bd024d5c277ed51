"""Saved views: lists of calls that people named, for themselves or for everyone in the organization."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.http import Http404

from accounts import access
from accounts.access import Permission
from accounts.models import Membership
from billing_portal.portal.models import SavedView

MOST = 50
# How long a deleted view can be taken back.
_KEPT = timedelta(days=1)


class NameTaken(Exception):
    """The person has a view of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"You have a view called {name} already. Choose another name.")


class TooManyViews(Exception):
    """The person has as many views as one may have."""

    def __init__(self) -> None:
        super().__init__(f"You have {MOST} views already. Delete one first.")


def seen_by(membership: Membership) -> Sequence[SavedView]:
    """Return the member's own views and those that others share, by name."""
    mine_or_shared = Q(owner=membership.user) | Q(is_shared=True)
    views = SavedView.objects.filter(mine_or_shared, organization=membership.organization, deleted_at=None)
    return list(views.select_related("owner").order_by("name", "id"))


_NAMED = """
    SELECT name, query FROM portal_savedview
    WHERE organization_id = %s AND deleted_at IS NULL AND (owner_id = %s OR is_shared) ORDER BY name, id"""


def named(membership: Membership) -> list[tuple[str, str]]:
    """Return (name, query) of what `seen_by` returns: every list of calls asks for it."""
    with connection.cursor() as cursor:
        cursor.execute(_NAMED, [membership.organization_id, membership.user_id])
        return list(cursor.fetchall())


def save(*, membership: Membership, name: str, query: str, is_shared: bool, now: datetime) -> SavedView:
    """Name a list, and return the view. Raises NameTaken, TooManyViews."""
    mine = SavedView.objects.filter(organization=membership.organization, owner=membership.user)
    if mine.filter(deleted_at=None).count() >= MOST:
        raise TooManyViews
    try:
        with transaction.atomic():
            return SavedView.objects.create(
                organization=membership.organization,
                owner=membership.user,
                name=name,
                query=query,
                is_shared=is_shared,
                created_at=now,
            )
    except IntegrityError:
        raise NameTaken(name) from None


def change(view: SavedView, *, name: str, is_shared: bool) -> None:
    """Rename a view, and share it or keep it to its owner. Raises NameTaken."""
    try:
        with transaction.atomic():
            SavedView.objects.filter(pk=view.pk).update(name=name, is_shared=is_shared)
    except IntegrityError:
        raise NameTaken(name) from None


def delete(view: SavedView, *, now: datetime) -> None:
    """Take a view out of all lists; those deleted long ago are removed for good."""
    SavedView.objects.filter(pk=view.pk).update(deleted_at=now)
    SavedView.objects.filter(organization_id=view.organization_id, deleted_at__lt=now - _KEPT).delete()


def restore(view: SavedView) -> None:
    """Take a deleted view back. Raises NameTaken where another has its name by now."""
    try:
        with transaction.atomic():
            SavedView.objects.filter(pk=view.pk).update(deleted_at=None)
    except IntegrityError:
        raise NameTaken(view.name) from None


def changeable(membership: Membership, public_id: UUID, *, is_deleted: bool = False) -> SavedView:
    """Return a view that the member may change. Raises Http404 for any other, also for one that is only seen."""
    views = SavedView.objects.filter(organization=membership.organization, public_id=public_id)
    found = views.filter(deleted_at__isnull=not is_deleted).select_related("owner").first()
    if found is None or not may_change(membership, found):
        raise Http404("No such view.")
    return found


def may_change(membership: Membership, view: SavedView) -> bool:
    """Say whether the view is the member's, or a shared one and the member looks after the organization."""
    if view.owner_id == membership.user_id:
        return True
    return view.is_shared and access.may(membership, Permission.MANAGE_SETTINGS)
