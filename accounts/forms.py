"""Forms about people."""

from django import forms
from django.conf import settings
from django.http import HttpRequest

from accounts import clock, terms
from accounts.models import User


class SignupForm(forms.Form):
    """What the portal asks beside the address and the password that allauth asks."""

    name = forms.CharField(label="Your name", max_length=120, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    terms = forms.BooleanField(
        label="I accept the terms of service",
        error_messages={"required": "An account needs your acceptance of the terms."},
    )

    field_order = ["name", "email", "password1", "terms"]

    def signup(self, request: HttpRequest, user: User) -> None:
        """Keep the name, and which terms were accepted when."""
        user.name = self.cleaned_data["name"]
        user.save(update_fields=["name"])
        terms.accept(user=user, version=settings.TERMS_VERSION, now=clock.now())


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = User
        fields = ["name"]
        labels = {"name": "Your name"}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}
