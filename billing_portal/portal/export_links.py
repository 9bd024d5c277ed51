"""Links to exported files, for mails: signed, and good until the file expires, for members who may see usage.

A link alone opens nothing, because it stands in mailboxes and in the logs of every server that it passes.
"""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http import Http404

from accounts import access
from accounts.models import User
from usage.models import Export

_SALT = "billing_portal.portal.export_links"


def token_of(export: Export) -> str:
    """Return what names the export in its link, signed."""
    return signing.dumps(export.public_id.hex, salt=_SALT)


def find(token: str, *, user: User, now: datetime) -> Export:
    """Return the export that a link names. Raises Http404 for a link that is forged or over, or another's."""
    try:
        name = signing.loads(token, salt=_SALT, max_age=settings.EXPORTS_KEPT)
    except signing.BadSignature:
        raise Http404("No such file, or its time is over.") from None
    ready = Export.objects.filter(public_id=UUID(name), state=Export.State.READY, expires_at__gt=now)
    export = ready.select_related("organization").first()
    if export is None:
        raise Http404("No such file, or its time is over.")
    member = access.membership_of(user, export.organization.public_id)
    if not access.may(member, access.Permission.VIEW_USAGE):
        raise Http404("No such file, or its time is over.")
    return export
