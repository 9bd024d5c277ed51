"""A small site around `accounts`: its own addresses, and one page and one endpoint under its guards."""

from allauth.urls import urlpatterns as allauth_urlpatterns
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, IntegerField, ListField, Serializer

from accounts.access import Permission
from accounts.authentication import HasScope
from accounts.models import ApiKey
from accounts.organization_view import organization_view

handler404 = "accounts.problems.not_found"
handler500 = "accounts.problems.server_error"


class Order(Serializer):
    name = CharField()
    quantities = ListField(child=IntegerField())


@api_view(["POST"])
@permission_classes([HasScope(ApiKey.Scope.USAGE_READ)])
def orders(request: Request) -> Response:
    order = Order(data=request.data)
    order.is_valid(raise_exception=True)
    return Response({"organization": request.user.organization and request.user.organization.reference})


@organization_view(Permission.MANAGE_SETTINGS)
def settings_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.organization.name}, {request.membership.role}")


def fault(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("secret detail")


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("home")


urlpatterns = [
    path("", home, name="home"),
    path("accounts/", include(allauth_urlpatterns)),
    path("accounts/", include("accounts.urls")),
    path("staff/", admin.site.urls),
    path("o/<uuid:organization>/settings/", settings_page, name="settings_page"),
    path("api/v1/orders", orders, name="orders"),
    path("api/v1/fault", fault),
]
