from django.contrib import admin
from django.urls import path

from billing_portal.support import views

urlpatterns = [
    path("find/", admin.site.admin_view(views.find), name="staff_find"),
]
