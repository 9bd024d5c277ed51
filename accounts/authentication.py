"""How programs prove who they are: an API key as bearer token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import api_keys, clock
from accounts.models import ApiKey, Organization
from accounts.problems import Problem

if TYPE_CHECKING:
    # DRF's views import the default authentication classes: this module.
    from rest_framework.views import APIView

_CHALLENGE = 'Bearer realm="api"'


@dataclass(frozen=True, slots=True)
class ApiClient:
    """The program behind a request; stands where a person's `request.user` would."""

    key: ApiKey
    is_authenticated = True
    is_anonymous = False
    is_active = True
    pk = None

    @property
    def organization(self) -> Organization | None:
        """The organization the key reads for; None for the vendor's keys."""
        return self.key.organization

    @property
    def is_vendor(self) -> bool:
        return self.key.organization_id is None


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <secret>`; `request.auth` is the key, `request.user` an ApiClient.

    A wrong, a revoked and an expired key are answered alike.
    """

    def authenticate(self, request: Request) -> tuple[ApiClient, ApiKey] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        key = api_keys.recognize(secret.strip().decode("latin-1"), now=clock.now())
        if key is None:
            raise AuthenticationFailed("The API key is unknown, revoked or expired.")
        return ApiClient(key), key

    def authenticate_header(self, request: Request) -> str:
        return _CHALLENGE


class HasScope(BasePermission):
    """Allow keys with `scope`: `permission_classes = [HasScope(ApiKey.Scope.CALLS_WRITE)]`."""

    def __init__(self, scope: ApiKey.Scope) -> None:
        self.scope = scope

    def __call__(self) -> "HasScope":
        # DRF calls each entry of `permission_classes`; an instance stands for itself.
        return self

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not isinstance(request.auth, ApiKey):
            return False
        if self.scope not in request.auth.scopes:
            raise Problem(
                403,
                "missing-scope",
                "The API key may not do this",
                f"This needs a key with the scope {self.scope}.",
                scope=str(self.scope),
            )
        return True


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tell the API's description how to authenticate."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An API key of the portal."}
