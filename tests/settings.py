"""The portal's settings, with a handful of differences that tests need."""

from billing_portal.settings import *  # noqa: F403 - the very settings, overridden below

INSTALLED_APPS += ["tests.emptying"]  # noqa: F405
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
ACCOUNT_RATE_LIMITS = False
# Tasks run where they are queued; journeys start a real worker instead.
CELERY_TASK_ALWAYS_EAGER = True
CELERY_TASK_EAGER_PROPAGATES = True
STATIC_ROOT = STATICFILES_DIRS[0]  # noqa: F405 - served as it stands; whitenoise warns of a missing folder
# Most organizations of the tests have no address: where tax is the subject, it is switched on.
AUTOMATIC_TAX = False
