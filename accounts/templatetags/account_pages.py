"""What the pages about a person need beside plain templates."""

from django import forms, template
from django.contrib.auth import password_validation

register = template.Library()


_HELP = {"passwordless": "The device then asks for a fingerprint, a face or a PIN."}
_LABELS = {"Email": "E-mail address", "Remember Me": "Keep me logged in"}


@register.simple_tag
def plain(form: forms.Form | str) -> str:
    """Drop the placeholders that repeat the labels, and say things as the portal says them."""
    if isinstance(form, str):  # an unknown variable
        return ""
    for bound in form:
        bound.field.widget.attrs.pop("placeholder", None)
        bound.label = _LABELS.get(str(bound.label), bound.label)
        bound.help_text = _HELP.get(bound.name, bound.help_text)
        if bound.name == "password1":
            bound.help_text = f"At least {_shortest_password()} characters, and not a common one."
        if bound.name == "code":  # whoever comes here has it at hand, and the page has nothing else to say
            bound.field.widget.attrs["autofocus"] = True
        if bound.name == "passwordless":
            form.initial.setdefault(bound.name, True)
    return ""


def _shortest_password() -> int:
    validators = password_validation.get_default_password_validators()
    return next(int(validator.min_length) for validator in validators if hasattr(validator, "min_length"))


# The first that occurs in the user agent names the browser: most of them also claim to be those further down.
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "FxiOS": "Firefox", "Chrome": "Chrome"}
_BROWSERS |= {"CriOS": "Chrome", "Safari": "Safari"}
_SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows"}
_SYSTEMS |= {"Mac OS X": "macOS", "CrOS": "ChromeOS", "Linux": "Linux"}


@register.filter
def device(user_agent: str) -> str:
    """Return what a person calls the device behind a user agent, as far as it can be told."""
    browser = next((name for mark, name in _BROWSERS.items() if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS.items() if mark in user_agent), "")
    return f"{browser or 'A browser'} on {system}" if system else browser or "Unknown device"
