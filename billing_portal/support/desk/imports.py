"""Files of calls and conversations on the desk: sent, followed, cancelled, and what was refused of them fetched."""

from pathlib import PurePath
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from accounts import clock, queueing
from accounts.models import User
from billing_portal.support.desk.read_only import EstimatingPaginator
from usage import imports, tasks
from usage.api import import_views
from usage.models import ImportJob

_COUNTS = ["recorded", "duplicates", "conflicts", "rejected"]
_SHOWN = ["name", "kind", "organization", "progress", *_COUNTS, "asked_at", "finished_at"]


class UploadForm(forms.ModelForm):  # type: ignore[type-arg] # generic only to the type checker
    """A file, and whose calls it holds."""

    file = forms.FileField(
        help_text="JSON, JSON lines, CSV (whose first line names the fields of a call object) or Parquet; also .gz or "
        ".xz. To send a file again is safe: what is recorded already is a duplicate."
    )

    class Meta:
        model = ImportJob
        fields = ["file", "kind", "organization"]
        help_texts = {"organization": "Whose calls they are, where the file does not say."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "kind" in self.fields:
            self.fields["kind"].required = False

    def clean_kind(self) -> str:
        return self.cleaned_data["kind"] or ImportJob.Kind.CALLS

    def clean(self) -> dict[str, Any]:
        """Hold the end of the file's name against what is said to be in it."""
        cleaned: dict[str, Any] = super().clean() or {}
        if file := cleaned.get("file"):
            try:
                imports.check_name(file.name or "", cleaned.get("kind", ImportJob.Kind.CALLS))
            except imports.FormatUnknown as error:
                self.add_error("file", str(error))
        return cleaned

    def clean_file(self) -> "UploadedFile[Any]":
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if (file.size or 0) > settings.IMPORTS_MOST_BYTES:
            raise forms.ValidationError(f"A file holds at most {settings.IMPORTS_MOST_BYTES:,} bytes.")
        return file


@admin.register(ImportJob)
class ImportJobAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic only to the type checker
    """Add one to send a file; open one to see how far it is."""

    form = UploadForm
    list_display = [*_SHOWN]
    list_filter = ["state"]
    list_select_related = ["organization"]
    search_fields = ["name", "organization__reference", "organization__name"]
    autocomplete_fields = ["organization"]
    ordering = ["-pk"]
    paginator = EstimatingPaginator
    show_full_result_count = False
    actions = ["cancel"]

    def get_fields(self, request: HttpRequest, obj: ImportJob | None = None) -> list[Any]:
        return [*_SHOWN, "reason", "asked_by", "api_key", "refusals"] if obj else ["file", "kind", "organization"]

    def has_change_permission(self, request: HttpRequest, obj: ImportJob | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ImportJob | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        refusals = self.admin_site.admin_view(self.download)
        return [path("<int:job_id>/refusals/", refusals, name="usage_importjob_refusals"), *super().get_urls()]

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> ImportJob:
        """Keep the file; what the row says of it comes with that."""
        file = form.cleaned_data["file"]
        assert isinstance(request.user, User), "the desk asked who it is"
        return imports.upload(
            file.chunks(),
            name=PurePath(file.name).name,
            now=clock.now(),
            kind=form.cleaned_data["kind"],
            organization=form.cleaned_data["organization"],
            by=request.user,
        )

    def save_model(self, request: HttpRequest, obj: ImportJob, form: Any, change: bool) -> None:
        """Let a worker take it from here; the row is there already."""
        queueing.on_commit(tasks.record_import, obj.pk)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """An import has nothing beside itself."""

    def download(self, request: HttpRequest, job_id: int) -> HttpResponseBase:
        """Send what was not recorded, as CSV."""
        job = ImportJob.objects.filter(pk=job_id).first()
        if job is None or not self.has_view_permission(request, job):
            raise Http404
        return import_views.refusals(job)

    @admin.display(description="State")
    def progress(self, job: ImportJob) -> str:
        if job.is_under_way:
            return f"{job.get_state_display()}, {job.percent_done} %"
        return job.get_state_display()

    @admin.display(description="Not recorded")
    def refusals(self, job: ImportJob) -> str:
        if not (job.conflicts or job.rejected):
            return "nothing"
        shown = f"{job.conflicts + job.rejected:,} items, as CSV"
        return format_html('<a href="{}">{}</a>', reverse("admin:usage_importjob_refusals", args=[job.pk]), shown)

    @admin.action(description="Cancel the selected imports", permissions=["add"])
    def cancel(self, request: HttpRequest, jobs: QuerySet[ImportJob]) -> None:
        now = clock.now()
        cancelled = sum(imports.cancel(job, now=now) for job in jobs)
        messages.success(request, f"{cancelled} imports were stopped; what they had recorded stays.")
