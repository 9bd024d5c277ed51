"""The completeness seal for programs: until when every call is here, what is missing, and how much was rejected."""

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from msgspec import Meta
from rest_framework.request import Request

from accounts import clock, replica
from accounts.models import Organization
from usage import completeness, intake_log
from usage.api import description, queries
from usage.api.keyed_views import KeyedView, answer, organization_of
from usage.completeness import Seal, Source

_GAPS = 100
_REJECTED = 10_000
_RECENT = timedelta(days=30)


class MissingNumbers(msgspec.Struct, frozen=True):
    """Numbers between two that arrived; `since` is when a later one arrived first."""

    after: int
    before: int
    missing: int
    since: datetime


class NumberedSource(msgspec.Struct, frozen=True):
    """What arrived of one source of calls.

    `complete_to` is when the last call before the first missing number was over. `arriving` counts missing numbers so
    young that they may be on their way; they are not in `missing`. `given_up` counts numbers no longer waited for.
    """

    source: str
    first: int
    last: int
    received: int
    missing: int
    arriving: int
    given_up: int
    complete_to: datetime | None
    last_received_at: datetime
    gaps: Annotated[list[MissingNumbers], Meta(description=f"The first {_GAPS}.")]


class Completeness(msgspec.Struct, frozen=True):
    """Whether every call has arrived. Without `sources` the vendor numbers no calls, so gaps cannot be seen.

    `rejected` counts calls that were refused in the last 30 days and are still not recorded, up to 10,000.
    """

    organization: str
    complete_to: datetime | None
    missing: int
    arriving: int
    rejected: int
    sources: list[NumberedSource]


class CompletenessView(KeyedView):
    """Whether every call has arrived."""

    @description.reads("get_completeness", query=queries.OrganizationQuery, answer=Completeness)
    @method_decorator(replica.reads)
    def get(self, request: Request) -> HttpResponse:
        """Say until when every call is here, and what is missing."""
        query = queries.read(request.query_params, queries.OrganizationQuery)
        organization = organization_of(request, query)
        now = clock.now()
        seal = completeness.seal(organization.pk, now=now)
        rejected = intake_log.count_open_rejections(organization.pk, since=now - _RECENT, most=_REJECTED)
        return answer(_completeness(organization, seal, rejected))


def _completeness(organization: Organization, seal: Seal, rejected: int) -> Completeness:
    return Completeness(
        organization=organization.reference,
        complete_to=seal.complete_to,
        missing=seal.missing,
        arriving=seal.arriving,
        rejected=rejected,
        sources=[_source(source) for source in seal.sources],
    )


def _source(source: Source) -> NumberedSource:
    return NumberedSource(
        source=source.name,
        first=source.first,
        last=source.last,
        received=source.received,
        missing=source.missing,
        arriving=source.arriving,
        given_up=source.given_up,
        complete_to=source.complete_to,
        last_received_at=source.last_received_at,
        gaps=[MissingNumbers(gap.after, gap.before, gap.missing, gap.since) for gap in source.gaps[:_GAPS]],
    )
