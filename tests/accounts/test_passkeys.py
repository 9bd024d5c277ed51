"""Passkeys, in Chromium with an authenticator of its own, under the strict CSP."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from playwright.sync_api import CDPSession, Page, expect

from accounts.models import User
from tests import looks
from tests.conftest import PASSWORD

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.accounts.urls"),
]


@dataclass
class Browser:
    """A page, its authenticator, and everything the console complained about."""

    page: Page
    devtools: CDPSession
    complaints: list[str] = field(default_factory=list)

    def add_authenticator(self) -> None:
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    def is_accessible(self) -> bool:
        looks.assert_accessible(self.page)
        return True


@pytest.fixture
def browser(chromium: Any, live_server: Any) -> Browser:
    context = chromium.new_context(base_url=live_server.url, reduced_motion="reduce")
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    browser = Browser(page, devtools)
    page.on("pageerror", lambda error: browser.complaints.append(str(error)))
    page.on("console", lambda message: message.type == "error" and browser.complaints.append(message.text))
    return browser


def log_in(page: Page, user: User) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("E-mail address").fill(user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()


def log_out(page: Page) -> None:
    page.goto("/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Log out").click()


def add_passkey(page: Page, *, alone: bool) -> None:
    page.goto("/accounts/2fa/webauthn/add/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("What to call it").fill("Dana's laptop")
    page.get_by_label("Log in with it alone").set_checked(alone)
    page.get_by_role("button", name="Add passkey").click()
    expect(page.get_by_text("The passkey is added.")).to_be_visible()


def test_a_passkey_logs_in_alone(browser: Browser, dana: User) -> None:
    browser.add_authenticator()
    page = browser.page
    log_in(page, dana)
    add_passkey(page, alone=True)
    assert Authenticator.objects.filter(user=dana, type="webauthn").count() == 1
    page.goto("/accounts/2fa/webauthn/")
    expect(page.get_by_text("Dana's laptop")).to_be_visible()
    assert browser.is_accessible()
    log_out(page)
    assert browser.is_accessible()
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_text("home")).to_be_visible()
    page.goto("/accounts/profile/")
    expect(page.get_by_label("Your name")).to_have_value("Dana Dorn")
    assert not [text for text in browser.complaints if "favicon" not in text and "404" not in text]


def test_a_passkey_is_a_second_factor(browser: Browser, dana: User) -> None:
    browser.add_authenticator()
    page = browser.page
    log_in(page, dana)
    add_passkey(page, alone=False)
    log_out(page)
    log_in(page, dana)
    expect(page.get_by_role("heading", name="Two-factor authentication")).to_be_visible()
    assert browser.is_accessible()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("home")).to_be_visible()


def test_a_passkey_that_is_not_there_is_said_plainly(browser: Browser, dana: User) -> None:
    browser.add_authenticator()
    page = browser.page
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was used.")
    assert not browser.complaints


def test_a_passkey_can_be_renamed_and_removed(browser: Browser, dana: User) -> None:
    browser.add_authenticator()
    page = browser.page
    log_in(page, dana)
    add_passkey(page, alone=True)
    page.goto("/accounts/2fa/webauthn/")
    page.get_by_role("link", name="Rename").click()
    page.get_by_label("Name").fill("Old laptop")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Old laptop")).to_be_visible()
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("The passkey is removed.")).to_be_visible()
    assert not Authenticator.objects.filter(user=dana, type="webauthn").exists()
