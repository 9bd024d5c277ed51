"""Files of calls come in whole, are recorded in the background, and say how far they are and what was refused."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import PurePath
from typing import Annotated, Any, Literal
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.multipartparser import MultiPartParserError
from django.urls import reverse
from msgspec import Meta
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import clock, queueing
from accounts.authentication import HasScope
from accounts.models import ApiKey, Organization
from accounts.problems import Problem
from usage import imports, tasks
from usage.api import answers, description, encodings, queries
from usage.api.keyed_views import KeyedView, answer, not_found
from usage.models import ImportJob

_MULTIPART = "multipart/form-data"
_CHUNK = 256 * 1024
# What a raw body is, where its name does not say.
_ENDINGS = {
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/vnd.apache.parquet": ".parquet",
}


class ImportQuery(queries.OrganizationQuery):
    """Whose calls they are, where the items do not say, and how the file is called."""

    kind: Annotated[
        Literal["calls", "intercom"],
        Meta(
            description="What the items are: call objects, or conversations in the shape of Intercom's API (JSON only)."
        ),
    ] = "calls"
    name: Annotated[
        str,
        Meta(
            pattern=r"^[^\x00/\\]+\.(?:(?:jsonl?|ndjson|csv|tsv)(?:\.gz|\.xz)?|parquet)$",
            max_length=255,
            description="The file's name; its end says what is in it. Without one, the body's type does.",
        ),
    ] = ""


class ImportsView(KeyedView):
    """Where files are sent."""

    @description.takes_files("import_calls", query=ImportQuery, types=[*_ENDINGS])
    def post(self, request: Request) -> HttpResponse:
        """Import a file of calls or conversations."""
        query = queries.read(request.query_params, ImportQuery)
        try:
            content, name = _content(request._request, query.name)
            key = request.auth
            assert isinstance(key, ApiKey), "the permission asked for one"
            job = imports.upload(
                content,
                name=name,
                kind=query.kind,
                now=clock.now(),
                organization=_named(query.organization),
                api_key=key,
            )
        except imports.FormatUnknown as error:
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The file's type is unknown", str(error)
            ) from None
        except imports.TooLarge as error:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The file is too large", str(error)
            ) from None
        queueing.on_commit(tasks.record_import, job.pk)
        response = answer(_report(job, request), status=HTTPStatus.ACCEPTED)
        response.headers["Location"] = _address(job, request)
        return response


class ImportView(KeyedView):
    """One import."""

    def get_permissions(self) -> list[BasePermission]:
        return [HasScope(ApiKey.Scope.CALLS_WRITE)]

    @description.reads("get_import", query=queries.NoQuery, answer=answers.ImportReport)
    def get(self, request: Request, import_id: UUID) -> HttpResponse:
        """Get how far an import is."""
        queries.read(request.query_params, queries.NoQuery)
        return answer(_report(_job(import_id), request))


class ImportRefusalsView(KeyedView):
    """What of a file was not recorded."""

    def get_permissions(self) -> list[BasePermission]:
        return [HasScope(ApiKey.Scope.CALLS_WRITE)]

    @description.streams(
        "get_import_refusals",
        query=queries.NoQuery,
        content_type="text/csv",
        row="A line for each item of the file that was not recorded",
    )
    def get(self, request: Request, import_id: UUID) -> StreamingHttpResponse:
        """Get what was not recorded, as CSV."""
        queries.read(request.query_params, queries.NoQuery)
        job = _job(import_id)
        return refusals(job)


def refusals(job: ImportJob) -> StreamingHttpResponse:
    """Return what of a file was not recorded, as a file to keep."""
    name = f"{PurePath(job.name).name}.refused.csv".replace('"', "")
    response = StreamingHttpResponse(imports.refusals_as_csv(job), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name.encode("ascii", "replace").decode()}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _content(request: HttpRequest, name: str) -> tuple[Iterator[bytes], str]:
    """Return the file's bytes and its name. Raises Problem."""
    if request.content_type == _MULTIPART:
        file = _uploaded(request)
        return file.chunks(_CHUNK), name or file.name or ""
    ending = _ENDINGS.get(request.content_type or "", "")
    name = name or (f"calls{ending}" if ending else "")
    if request.headers.get("Content-Encoding", "").lower() == "gzip" and not name.endswith(".gz"):
        name += ".gz"
    return encodings.chunks_of(request, _CHUNK), name


def _uploaded(request: HttpRequest) -> "UploadedFile[Any]":
    try:
        files = request.FILES.getlist("file")
    except MultiPartParserError as error:
        raise encodings.unreadable(f"The form cannot be read: {error}.") from None
    if len(files) != 1:
        raise encodings.unreadable("Send one file, in the form's field named file.")
    return files[0]


def _named(reference: str) -> Organization | None:
    if not reference:
        return None
    found = Organization.objects.filter(reference=reference).first()
    if found is None:
        raise not_found()
    return found


def _job(import_id: UUID) -> ImportJob:
    found = ImportJob.objects.select_related("organization").filter(public_id=import_id).first()
    if found is None:
        raise not_found()
    return found


def _address(job: ImportJob, request: Request) -> str:
    return request.build_absolute_uri(reverse("api-import", args=[job.public_id]))


def _report(job: ImportJob, request: Request) -> answers.ImportReport:
    refused = request.build_absolute_uri(reverse("api-import-refusals", args=[job.public_id]))
    return answers.ImportReport(
        id=str(job.public_id),
        address=_address(job, request),
        name=job.name,
        organization=job.organization.reference if job.organization else None,
        state=job.state,
        percent_done=job.percent_done,
        items=job.items_done,
        recorded=job.recorded,
        duplicates=job.duplicates,
        conflicts=job.conflicts,
        rejected=job.rejected,
        refusals=refused if job.conflicts or job.rejected else None,
        reason=job.reason or None,
        asked_at=job.asked_at,
        finished_at=job.finished_at,
    )
