"""All settings, read from the environment. Missing production secrets stop the start, loudly.

Without DATABASE_URL and BROKER_URL, PostgreSQL and Valkey run from their wheels in `.local/` (billing_portal/local).
Without STRIPE_SECRET_KEY, the portal speaks to the Stripe sandbox at STRIPE_API_BASE.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import structlog
from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import Env
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing_portal.local import servers

env = Env()
BASE_DIR = Path(__file__).resolve().parent.parent
LOCAL_DIR = env.path("LOCAL_DIR", BASE_DIR / ".local")

# ── Which world this is ───────────────────────────────────────────────────────────────────────────────────────────────

DEBUG = env.bool("DEBUG", False)
BASE_URL = env.str("BASE_URL", "http://127.0.0.1:8000")
_DEFAULT_SANDBOX = "http://127.0.0.1:12111"
_SANDBOX_KEY = "sk_test_sandbox"
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", _SANDBOX_KEY)
STRIPE_PUBLISHABLE_KEY = env.str("STRIPE_PUBLISHABLE_KEY", "pk_test_sandbox")
STRIPE_API_BASE = env.str(
    "STRIPE_API_BASE",
    _DEFAULT_SANDBOX if STRIPE_SECRET_KEY == _SANDBOX_KEY else "https://api.stripe.com",
)
STRIPE_IS_SANDBOX = STRIPE_API_BASE != "https://api.stripe.com"
STRIPE_JS_URL = f"{STRIPE_API_BASE}/stripe.js" if STRIPE_IS_SANDBOX else "https://js.stripe.com/dahlia/stripe.js"
# Several secrets are accepted at once, so that one can be rotated without losing an event.
STRIPE_WEBHOOK_SECRETS = env.list("STRIPE_WEBHOOK_SECRETS", ["whsec_sandbox"] if STRIPE_IS_SANDBOX else [])
STRIPE_API_VERSION = "2026-05-27.dahlia"
STRIPE_TIMEOUT_SECONDS = 10
STRIPE_LIVE_MODE = STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))

SECRET_KEY = env.str("SECRET_KEY", "an-open-secret-for-the-sandbox-and-the-tests-only" if STRIPE_IS_SANDBOX else "")
if not SECRET_KEY or (not STRIPE_IS_SANDBOX and not STRIPE_WEBHOOK_SECRETS):
    raise ImproperlyConfigured("Set SECRET_KEY and STRIPE_WEBHOOK_SECRETS: the real Stripe is in use.")
# What signs receipts: 32 random bytes in base64. The public halves of those before it stay published.
_OPEN_RECEIPT_KEY = "b3BlbiB0byBldmVyeWJvZHk6IHRlc3RzLCBzYW5kYm8="
RECEIPT_SIGNING_KEY = env.str("RECEIPT_SIGNING_KEY", _OPEN_RECEIPT_KEY if STRIPE_IS_SANDBOX else "")
if not RECEIPT_SIGNING_KEY:
    raise ImproperlyConfigured(
        "Set RECEIPT_SIGNING_KEY: 32 random bytes in base64, as `openssl rand -base64 32` makes them."
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", [urlsplit(BASE_URL).hostname, "127.0.0.1", "localhost"])
CSRF_TRUSTED_ORIGINS = [BASE_URL]

# ── Money and the vendor's terms ──────────────────────────────────────────────────────────────────────────────────────

VENDOR_NAME = env.str("VENDOR_NAME", "Parley Voice")
SUPPORT_EMAIL = env.str("SUPPORT_EMAIL", "support@example.com")
# What one member of staff may move alone, an organization and day; above it a second one approves.
STAFF_LIMIT_MICROS = {"USD": 50_000_000, "EUR": 50_000_000, "GBP": 40_000_000, "JPY": 7_500_000_000}
# Who reads what needs a person of the vendor's: a frozen account, an approval asked for.
# How long handled events of Stripe's are kept; longer than the 30 days for which Stripe lists them.
INBOX_EVENTS_KEPT = timedelta(days=env.int("INBOX_EVENTS_KEPT_DAYS", 90))
# Whether credit is held from an issuer's warning of fraud on; otherwise only from a chargeback on.
FRAUD_WARNING_HOLDS_CREDIT = env.bool("FRAUD_WARNING_HOLDS_CREDIT", False)
STAFF_NOTICE_EMAILS = env.list("STAFF_NOTICE_EMAILS", [SUPPORT_EMAIL])
# By when staff answer a customer who disputes what is billed.
DISPUTE_ANSWER_WITHIN = timedelta(days=env.int("DISPUTE_ANSWER_DAYS", 5))
TERMS_VERSION = env.str("TERMS_VERSION", "2026-10-01")
# The welcome credit by currency; a currency without an amount gets none.
WELCOME_CREDIT_MICROS = {"USD": 10_000_000, "EUR": 10_000_000, "GBP": 8_000_000, "JPY": 1_500_000_000}
_WELCOME_CREDIT_DAYS = env.int("WELCOME_CREDIT_DAYS", 0)
WELCOME_CREDIT_EXPIRES_AFTER = timedelta(days=_WELCOME_CREDIT_DAYS) if _WELCOME_CREDIT_DAYS else None
# How many organizations of one company's e-mail domain get it; at a free-mail domain each mailbox counts by itself.
WELCOME_CREDITS_PER_DOMAIN = env.int("WELCOME_CREDITS_PER_DOMAIN", 3)
FREE_MAIL_DOMAINS = env.list(
    "FREE_MAIL_DOMAINS",
    [
        "aol.com",
        "duck.com",
        "fastmail.com",
        "free.fr",
        "gmail.com",
        "gmx.com",
        "gmx.de",
        "gmx.net",
        "googlemail.com",
        "hey.com",
        "hotmail.com",
        "icloud.com",
        "live.com",
        "libero.it",
        "mac.com",
        "mail.com",
        "mail.ru",
        "me.com",
        "msn.com",
        "naver.com",
        "orange.fr",
        "outlook.com",
        "pm.me",
        "proton.me",
        "protonmail.com",
        "qq.com",
        "t-online.de",
        "tuta.com",
        "web.de",
        "yahoo.co.jp",
        "yahoo.co.uk",
        "yahoo.com",
        "yandex.ru",
        "163.com",
    ],
)
# Prepaid credit by currency: the least and the most that one purchase buys, then the amounts that the page offers.
CREDIT_FOR_SALE_MICROS = {
    "USD": (10_000_000, 10_000_000_000, 25_000_000, 50_000_000, 100_000_000, 500_000_000),
    "EUR": (10_000_000, 10_000_000_000, 25_000_000, 50_000_000, 100_000_000, 500_000_000),
    "GBP": (10_000_000, 8_000_000_000, 25_000_000, 50_000_000, 100_000_000, 400_000_000),
    "JPY": (1_500_000_000, 1_500_000_000_000, 3_000_000_000, 7_500_000_000, 15_000_000_000, 75_000_000_000),
}
PREPAID_CREDIT_EXPIRES_AFTER: timedelta | None = None
# How many whole months of calls stay in lists and exports; older tables are detached for the archive. None keeps all.
CALL_MONTHS_KEPT: int | None = env.int("CALL_MONTHS_KEPT", None)
# What an organization may owe on its card before usage stops.
ARREARS_LIMIT_MICROS = {"USD": 100_000_000, "EUR": 100_000_000, "GBP": 80_000_000, "JPY": 15_000_000_000}
# When as much is on no invoice yet, in percent of that, an interim invoice is charged.
INTERIM_INVOICE_AT_PERCENT = 80

# Whether Stripe works out tax on everything, and so a billing address is asked for before the first charge.
AUTOMATIC_TAX = env.bool("AUTOMATIC_TAX", True)
# How long an invoice that lacks an address for its tax waits for one; then it is made final without tax.
TAX_ADDRESS_AWAITED_FOR = timedelta(days=env.int("TAX_ADDRESS_AWAITED_DAYS", 7))

# Whether prepaid cards are refused: they cannot be charged for what is owed at a month's end.
PREPAID_CARDS_REFUSED = env.bool("PREPAID_CARDS_REFUSED", True)
# Card testers try numbers by the hundred, a person needs a few: entries begun by an organization in an hour, from one
# address in an hour, and with one card in a day, over all organizations.
CARD_SETUPS_PER_ORGANIZATION = env.int("CARD_SETUPS_PER_ORGANIZATION", 10)
CARD_SETUPS_PER_ADDRESS = env.int("CARD_SETUPS_PER_ADDRESS", 20)
CARD_SETUPS_PER_CARD = env.int("CARD_SETUPS_PER_CARD", 5)

# How long an invoice whose payment failed may stay unpaid before usage stops, and how long before that it is announced.
PAYMENT_GRACE = timedelta(days=env.int("PAYMENT_GRACE_DAYS", 14))
PAYMENT_GRACE_ANNOUNCED = timedelta(days=env.int("PAYMENT_GRACE_ANNOUNCED_DAYS", 3))

# How long rejected and repeated items, and the numbers of quiet sources, are remembered for those who trace an id.
INTAKE_KEPT = timedelta(days=env.int("INTAKE_KEPT_DAYS", 90))

# Where exported files wait to be fetched: a directory that web and worker processes share, on all machines.
EXPORTS_DIR = env.path("EXPORTS_DIR", LOCAL_DIR / "exports")
EXPORTS_KEPT = timedelta(days=env.int("EXPORTS_KEPT_DAYS", 7))

# Where uploaded files of calls wait to be recorded: a directory that web and worker processes share, on all machines.
IMPORTS_DIR = env.path("IMPORTS_DIR", LOCAL_DIR / "imports")
IMPORTS_MOST_BYTES = env.int("IMPORTS_MOST_BYTES", 5 * 1024**3)
# Customers' own logs and what came of comparing them: a directory that web and worker processes share, too.
COMPARISONS_DIR = env.path("COMPARISONS_DIR", LOCAL_DIR / "comparisons")
COMPARISONS_MOST_BYTES = env.int("COMPARISONS_MOST_BYTES", 300 * 1024**2)

# ── Servers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DATABASE_URL = env.str("DATABASE_URL", "")
BROKER_URL = env.str("BROKER_URL", "")
if not (DATABASE_URL and BROKER_URL):
    _local = servers.ensure(LOCAL_DIR)
    DATABASE_URL = DATABASE_URL or _local.database_url
    BROKER_URL = BROKER_URL or _local.broker_url

DATABASES = {"default": dj_database_url.parse(DATABASE_URL, conn_max_age=60)}
DATABASES["default"].setdefault("OPTIONS", {})["options"] = "-c timezone=UTC -c jit=off"
# A standby of that database, for pages, lists and exports (`accounts.replica`); without it nothing is different.
if REPLICA_URL := env.str("REPLICA_URL", ""):
    DATABASES["replica"] = dj_database_url.parse(REPLICA_URL, conn_max_age=60, conn_health_checks=True)
    DATABASES["replica"].setdefault("OPTIONS", {}).update(options="-c timezone=UTC -c jit=off", connect_timeout=2)
# A replica that is further behind is not used, and so long somebody's read waits for what he wrote himself.
REPLICA_MOST_LAG_SECONDS = env.int("REPLICA_MOST_LAG_SECONDS", 10)
REPLICA_PATIENCE_MILLISECONDS = env.int("REPLICA_PATIENCE_MILLISECONDS", 200)
# A broker that hangs must not hold a request for long: `accounts.queueing` leaves to the sweeps what cannot be queued.
_BROKER_PATIENCE = {"socket_connect_timeout": 2, "socket_timeout": 5}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": BROKER_URL,
        "OPTIONS": {**_BROKER_PATIENCE, "retry": Retry(NoBackoff(), 1)},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ── Applications ──────────────────────────────────────────────────────────────────────────────────────────────────────

INSTALLED_APPS = [
    "accounts.apps.StaffAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "djstripe",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "django_cotton.apps.SimpleAppConfig",
    "template_partials.apps.SimpleAppConfig",
    "lucide",
    "pgtrigger",
    "django_structlog",
    "csp",
    "accounts.apps.AccountsConfig",
    "usage",
    "billing_portal.ledger",
    "billing_portal.billing",
    "billing_portal.portal",
    "billing_portal.support",
    "billing_portal.local",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "accounts.replica.remember_writes",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "billing_portal.portal.upload_limit.refuse_large_uploads",  # before anything reads the body
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.session_activity.SessionActivityMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "billing_portal.urls"
WSGI_APPLICATION = "billing_portal.wsgi.application"
MIGRATION_MODULES = {"djstripe": "billing_portal.djstripe_migrations"}

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [
                (
                    "template_partials.loader.Loader",
                    [
                        (
                            "django.template.loaders.cached.Loader",
                            [
                                "django_cotton.cotton_loader.Loader",
                                "django.template.loaders.filesystem.Loader",
                                "django.template.loaders.app_directories.Loader",
                            ],
                        )
                    ],
                )
            ],
            "builtins": [
                "django_cotton.templatetags.cotton",
                "template_partials.templatetags.partials",
                "billing_portal.portal.templatetags.icons",
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "billing_portal.portal.context.portal",
            ],
        },
    }
]
COTTON_DIR = "components"
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# The demo serves straight from `static/`: nothing has to be collected before the first page.
if STRIPE_IS_SANDBOX:
    WHITENOISE_USE_FINDERS = True
    STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"

# ── People ────────────────────────────────────────────────────────────────────────────────────────────────────────────

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_SIGNUP_FORM_CLASS = "accounts.forms.SignupForm"
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_EMAIL_VERIFICATION_SUPPORTS_RESEND = True
# By code, because a link's token would stand in the logs of every server it passes.
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
ACCOUNT_PASSWORD_RESET_BY_CODE_TIMEOUT = 900
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ADAPTER = "accounts.adapter.MfaAdapter"
MFA_TOTP_ISSUER = VENDOR_NAME
MFA_TOTP_TOLERANCE = 1
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = STRIPE_IS_SANDBOX
USERSESSIONS_TRACK_ACTIVITY = True
# Staff open the desk only with a second factor.
STAFF_MFA_REQUIRED = env.bool("STAFF_MFA_REQUIRED", True)

# How many proxies stand before the portal: without it, all clients behind one share a rate limit.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXY_COUNT", 0)

DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", f"{VENDOR_NAME} Billing <billing@example.com>")
EMAIL_BACKEND = env.str(
    "EMAIL_BACKEND",
    "django.core.mail.backends.filebased.EmailBackend"
    if STRIPE_IS_SANDBOX
    else "django.core.mail.backends.smtp.EmailBackend",
)
EMAIL_FILE_PATH = LOCAL_DIR / "mail"

SESSION_ENGINE = "accounts.session_store"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BASE_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 31_536_000 if BASE_URL.startswith("https://") else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

_STRIPE_SCRIPTS = [STRIPE_API_BASE] if STRIPE_IS_SANDBOX else ["https://js.stripe.com", "https://*.js.stripe.com"]
_STRIPE_FRAMES = (
    _STRIPE_SCRIPTS if STRIPE_IS_SANDBOX else [*_STRIPE_SCRIPTS, "https://hooks.stripe.com", "https://link.com"]
)
_STRIPE_PAGES = (
    [STRIPE_API_BASE] if STRIPE_IS_SANDBOX else ["https://checkout.stripe.com", "https://billing.stripe.com"]
)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, *_STRIPE_SCRIPTS],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "https://*.stripe.com"],
        "font-src": [SELF],
        "connect-src": [SELF, STRIPE_API_BASE],
        "frame-src": _STRIPE_FRAMES,
        "form-action": [SELF, *_STRIPE_PAGES],
        "base-uri": [NONE],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

# ── API ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": ["accounts.rate_limits.KeyThrottle"],
    "EXCEPTION_HANDLER": "accounts.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": f"{VENDOR_NAME} billing API",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
# Back-pressure, far above the reference load of 12 calls a second: who sends more is told when to come again.
API_KEY_REQUESTS_PER_SECOND = env.int("API_KEY_REQUESTS_PER_SECOND", 2_000)
API_KEY_BURST = env.int("API_KEY_BURST", 10_000)
# Requests that record at once, in one process; below its threads, so that some are left for pages.
API_RECORDING_AT_ONCE = env.int("API_RECORDING_AT_ONCE", 32)
# More calls than these do not wait for settlement: its workers must be down.
API_MOST_WAITING_CALLS = env.int("API_MOST_WAITING_CALLS", 50_000_000)
# How long a statement of a web process may take, and wait for a lock, before the request is answered 503.
WEB_STATEMENT_TIMEOUT_SECONDS = env.int("WEB_STATEMENT_TIMEOUT_SECONDS", 20)
WEB_LOCK_TIMEOUT_SECONDS = env.int("WEB_LOCK_TIMEOUT_SECONDS", 5)

# Retell's webhooks are signed with an API key of the account that sends them: the vendor's own (several, while one is
# rotated), or, as `reference=key`, an organization's, which then speaks for that organization alone.
RETELL_WEBHOOK_KEYS: list[str] = env.list("RETELL_WEBHOOK_KEYS", [])
# How long an ended call waits for its analysis before it is recorded without.
RETELL_ANALYSIS_GRACE_SECONDS = env.int("RETELL_ANALYSIS_GRACE_SECONDS", 3600)

# ── dj-stripe: the mirror only. No key is kept in the database, its URLs are not mounted. ─────────────────────────────

STRIPE_TEST_SECRET_KEY = STRIPE_SECRET_KEY
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
DJSTRIPE_SUBSCRIBER_CUSTOMER_KEY = ""
DJSTRIPE_WEBHOOK_VALIDATION = "verify_signature"

# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CELERY_BROKER_URL = BROKER_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Every sweep finds its work in PostgreSQL, so a task redelivered early or lost does no harm.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, **_BROKER_PATIENCE}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(LOCAL_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "send-letters": {"task": "accounts.tasks.send_letters", "schedule": 60.0},
    "forget-letters": {"task": "accounts.tasks.forget_letters", "schedule": crontab(hour=4, minute=17)},
    "forget-answers": {"task": "accounts.tasks.forget_answers", "schedule": crontab(minute=41)},
    "settle-usage": {"task": "billing_portal.ledger.tasks.settle_waiting", "schedule": 15.0},
    "report-usage": {"task": "billing_portal.billing.tasks.send_reports", "schedule": 30.0},
    "add-missing-items": {"task": "billing_portal.billing.tasks.add_missing_items", "schedule": 300.0},
    "process-inbox": {"task": "billing_portal.billing.tasks.handle_waiting_events", "schedule": 15.0},
    # An endpoint that was down is caught up with: what Stripe retries for three days, the sweep finds within the hour.
    "catch-up-events": {"task": "billing_portal.billing.tasks.catch_up_events", "schedule": crontab(minute=23)},
    "catch-up-a-month-of-events": {
        "task": "billing_portal.billing.tasks.catch_up_a_month_of_events",
        "schedule": crontab(hour=2, minute=29),
    },
    "check-invoices": {
        "task": "billing_portal.billing.mismatch_tasks.check_invoices",
        "schedule": crontab(minute="*/10"),
    },
    "look-at-claims": {"task": "billing_portal.billing.tasks.look_at_claims", "schedule": crontab(minute=33)},
    "forget-events": {"task": "billing_portal.billing.tasks.forget_events", "schedule": crontab(hour=4, minute=31)},
    "advance-invoices": {"task": "billing_portal.billing.tasks.advance_invoices", "schedule": 60.0},
    "advance-purchases": {"task": "billing_portal.billing.purchase_tasks.advance_purchases", "schedule": 15.0},
    "issue-credit-notes": {"task": "billing_portal.billing.credit_note_tasks.issue_credit_notes", "schedule": 30.0},
    "send-billing-details": {"task": "billing_portal.billing.tax_tasks.send_billing_details", "schedule": 60.0},
    "look-at-tax-ids": {"task": "billing_portal.billing.tax_tasks.look_at_tax_ids", "schedule": crontab(minute=37)},
    "store-taxes": {"task": "billing_portal.billing.tax_tasks.store_taxes", "schedule": 60.0},
    "advance-seats": {"task": "billing_portal.billing.seat_tasks.advance_seats", "schedule": 60.0},
    "check-top-ups": {"task": "billing_portal.billing.purchase_tasks.check_top_ups", "schedule": 60.0},
    "renew-buckets": {
        "task": "billing_portal.billing.purchase_tasks.renew_buckets",
        "schedule": crontab(minute="*/10"),
    },
    "invoice-arrears": {"task": "billing_portal.billing.interim_tasks.invoice_arrears", "schedule": 60.0},
    "subscribe-missing": {"task": "billing_portal.portal.tasks.subscribe_missing", "schedule": 60.0},
    "record-held-calls": {"task": "usage.tasks.record_held_calls", "schedule": 15.0},
    "charge-outcomes": {"task": "usage.tasks.charge_outcomes", "schedule": 60.0},
    "expire-buckets": {"task": "billing_portal.ledger.tasks.expire_buckets", "schedule": crontab(minute=11)},
    "rate-unrated-calls": {"task": "usage.tasks.rate_unrated", "schedule": crontab(minute="*/10")},
    # Nightly in effect: each of many small runs takes those that were not proved for 20 hours.
    "check-books": {"task": "billing_portal.ledger.tasks.check_books", "schedule": crontab(minute="*/10", hour="1-5")},
    "attach-months": {"task": "usage.tasks.attach_months", "schedule": crontab(hour=3, minute=41)},
    "compact-months": {"task": "usage.tasks.compact_months", "schedule": crontab(hour=4, minute=17)},
    "fold-sequences": {"task": "usage.tasks.fold_sequences", "schedule": 60.0},
    "continue-exports": {"task": "billing_portal.portal.tasks.continue_exports", "schedule": 30.0},
    "continue-receipts": {"task": "billing_portal.billing.receipt_tasks.continue_receipts", "schedule": 30.0},
    "count-metadata": {"task": "usage.tasks.count_metadata_behind", "schedule": 60.0},
    "expire-exports": {"task": "usage.tasks.expire_exports", "schedule": crontab(minute=53)},
    "continue-imports": {"task": "usage.tasks.continue_imports", "schedule": 30.0},
    "continue-what-ifs": {"task": "usage.tasks.continue_what_ifs", "schedule": 30.0},
    "forget-what-ifs": {"task": "usage.tasks.forget_what_ifs", "schedule": crontab(hour=4, minute=23)},
    "continue-rule-previews": {"task": "usage.tasks.continue_rule_previews", "schedule": 30.0},
    "tell-of-rules": {"task": "billing_portal.portal.tasks.tell_of_rules", "schedule": 60.0},
    "continue-price-previews": {"task": "usage.tasks.continue_price_previews", "schedule": 30.0},
    "tell-of-prices": {"task": "billing_portal.portal.tasks.tell_of_prices", "schedule": 60.0},
    "continue-backfills": {"task": "usage.tasks.continue_backfills", "schedule": 15.0},
    "continue-comparisons": {"task": "usage.tasks.continue_comparisons", "schedule": 30.0},
    "forget-comparisons": {"task": "usage.tasks.forget_comparisons", "schedule": crontab(hour=4, minute=53)},
    "forget-imports": {"task": "usage.tasks.forget_imports", "schedule": crontab(hour=4, minute=47)},
    "prune-intake": {"task": "usage.tasks.prune_intake", "schedule": crontab(hour=4, minute=13)},
    "mend-card-facts": {"task": "billing_portal.billing.tasks.mend_card_facts", "schedule": crontab(minute=47)},
    "mend-overdue-facts": {
        "task": "billing_portal.billing.collecting_tasks.mend_overdue_facts",
        "schedule": crontab(minute=49),
    },
    "sweep-alerts": {"task": "billing_portal.ledger.tasks.sweep_alerts", "schedule": 60.0},
    "sweep-reservations": {"task": "billing_portal.ledger.tasks.sweep_reservations", "schedule": 30.0},
    "forget-reservations": {"task": "billing_portal.ledger.tasks.forget_reservations", "schedule": crontab(minute=41)},
    "pursue-overdue": {"task": "billing_portal.billing.collecting_tasks.pursue_overdue", "schedule": 60.0},
    "warn-of-card-expiry": {
        "task": "billing_portal.billing.collecting_tasks.warn_of_card_expiry",
        "schedule": crontab(minute=39),
    },
    "warn-of-expiry": {"task": "billing_portal.billing.tasks.warn_of_expiry", "schedule": crontab(minute=37)},
    "remind-of-disputes": {
        "task": "billing_portal.billing.dispute_tasks.remind_of_disputes",
        "schedule": crontab(minute=27),
    },
    "expire-credit": {"task": "billing_portal.ledger.tasks.expire_credit", "schedule": crontab(minute=7)},
}
DJANGO_STRUCTLOG_CELERY_ENABLED = True

# ── Logs: a constant message, ids as fields ───────────────────────────────────────────────────────────────────────────

LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
_SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structured": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processor": structlog.processors.JSONRenderer()
            if env.bool("LOG_JSON", not STRIPE_IS_SANDBOX)
            # Rich's tracebacks show local variables, which may be anybody's, and take seconds to draw.
            else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
            "foreign_pre_chain": _SHARED_PROCESSORS,
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {"stripe": {"level": "WARNING"}, "djstripe": {"level": "WARNING"}},
}
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        *_SHARED_PROCESSORS[1:],
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
