"""The mail that says an exported file is ready."""

from django.urls import reverse

from accounts import letters
from billing_portal.portal import export_links, export_list
from usage.models import Export


def tell_ready(export: Export) -> None:
    """Write to the person who asked, in the transaction that makes the export ready."""
    assert export.finished_at is not None
    letters.write(
        template="emails/export_ready",
        reference=f"export-ready:{export.public_id}",
        to=[export.asked_by.email],
        now=export.finished_at,
        organization=export.organization,
        export=export,
        file_name=export_list.file_name(export),
        link=reverse("export_link", args=[export_links.token_of(export)]),
    )
