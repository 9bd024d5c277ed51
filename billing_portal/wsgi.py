"""The WSGI application that gunicorn preloads."""

import os

from django.core.wsgi import get_wsgi_application

from accounts import web_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_portal.settings")

web_connections.limit()
application = get_wsgi_application()
