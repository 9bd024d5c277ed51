"""API keys: make one, say what it may do and until when, rotate it, revoke it.

A secret stands in the one answer that made it and nowhere else: not in a message, a session, an address or a log.
"""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import api_keys, clock
from accounts.access import Permission
from accounts.models import ApiKey
from accounts.organization_view import OrganizationRequest, organization_view
from billing_portal.portal import key_list
from billing_portal.portal.key_forms import SCOPES_IN_WORDS, KeyForm, NewKeyForm, RotateForm


@require_GET
@organization_view(Permission.MANAGE_KEYS)
def developers(request: OrganizationRequest) -> HttpResponse:
    """List the keys, and say how they are used."""
    usable, ended = key_list.keys_of(request.organization, now=clock.now())
    readers = [each.key for each in usable if ApiKey.Scope.USAGE_READ in each.key.scopes]
    context = {
        "usable": usable,
        "ended": ended,
        "example": key_list.example(readers[0]) if readers else "",
        "scopes": [(scope, scope.label, words) for scope, words in SCOPES_IN_WORDS.items()],
    }
    return render(request, "portal/developers.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
@organization_view(Permission.MANAGE_KEYS)
def key_new(request: OrganizationRequest) -> HttpResponse:
    """Make a key; the answer shows its secret, once."""
    now = clock.now()
    with timezone.override(request.organization.zone):
        form = NewKeyForm(request.POST or None, now=now)
        if request.method == "POST" and form.is_valid():
            fields = {name: form.cleaned_data[name] for name in ("name", "scopes", "expires_at", "token")}
            try:
                made = api_keys.issue(organization=request.organization, by=request.user, now=now, **fields)
            except api_keys.AlreadyIssued as repeated:
                return _made_already(request, repeated)
            except api_keys.TooManyKeys as refused:
                form.add_error(None, str(refused))
            else:
                return _made(request, *made)
        return render(request, "portal/developer_key_new.html", {"form": form})


@never_cache
@require_http_methods(["GET", "POST"])
@organization_view(Permission.MANAGE_KEYS)
def key(request: OrganizationRequest, key: UUID) -> HttpResponse:
    """Show one key; change its name, what it may do, and its end."""
    now, found = clock.now(), _key(request, key)
    with timezone.override(request.organization.zone):
        form = KeyForm(request.POST or None, now=now, key=found)
        if request.method == "POST" and form.is_valid():
            try:
                api_keys.change(found, now=now, **form.cleaned_data)
            except api_keys.KeyEnded as ended:
                messages.error(request, str(ended))
            else:
                messages.success(request, "Saved. It counts from the next request on.")
            return redirect("developer_key", request.organization.public_id, found.public_id)
        context = {"shown": key_list.shown(found, now=now), "form": form, "example": _example(found)}
        return render(request, "portal/developer_key.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
@organization_view(Permission.MANAGE_KEYS)
def key_rotate(request: OrganizationRequest, key: UUID) -> HttpResponse:
    """Make a new secret with an overlap; the answer shows it, once."""
    now, found = clock.now(), _key(request, key)
    with timezone.override(request.organization.zone):
        form = RotateForm(request.POST or None, now=now, never_expires=found.expires_at is None)
        if request.method == "POST" and form.is_valid():
            chosen = form.cleaned_data
            try:
                made = api_keys.rotate(
                    found,
                    old_expires_at=chosen["old_until_at"],
                    expires_at=chosen["expires_at"],
                    by=request.user,
                    token=chosen["token"],
                    now=now,
                )
            except api_keys.AlreadyIssued as repeated:
                return _made_already(request, repeated)
            except (api_keys.KeyEnded, api_keys.AlreadyRotated) as refused:
                messages.error(request, str(refused))
                return redirect("developer_key", request.organization.public_id, found.public_id)
            return _made(request, *made)
        context = {"shown": key_list.shown(found, now=now), "form": form}
        return render(request, "portal/developer_key_rotate.html", context)


@require_POST
@organization_view(Permission.MANAGE_KEYS)
def key_revoke(request: OrganizationRequest, key: UUID) -> HttpResponse:
    """End a key at once."""
    found = _key(request, key)
    api_keys.revoke(found, by=request.user, now=clock.now())
    messages.success(request, f"{found.name} is revoked. The next request with it is refused.")
    return redirect("developers", request.organization.public_id)


def _made(request: OrganizationRequest, key: ApiKey, secret: str) -> HttpResponse:
    """Answer with the secret itself instead of a redirect, which would have to carry it somewhere."""
    old = key.replaces
    context = {
        "key": key,
        "secret": secret,
        "example": _example(key),
        "old": old,
        "old_works": old is not None and old.is_usable(now=key.created_at),
    }
    return render(request, "portal/developer_key_made.html", context)


def _made_already(request: OrganizationRequest, repeated: api_keys.AlreadyIssued) -> HttpResponse:
    messages.warning(request, f"{repeated} If you did not copy it, rotate this key.")
    return redirect("developer_key", request.organization.public_id, repeated.key.public_id)


def _key(request: OrganizationRequest, public_id: UUID) -> ApiKey:
    found = key_list.find(request.organization, public_id)
    if found is None:
        raise Http404("No such page.")
    return found


def _example(key: ApiKey) -> str:
    return key_list.example(key) if ApiKey.Scope.USAGE_READ in key.scopes else ""
