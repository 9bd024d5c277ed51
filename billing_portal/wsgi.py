"""The WSGI application that gunicorn preloads."""

import os

from django.core.wsgi import get_wsgi_application

from accounts import garbage, web_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_portal.settings")

web_connections.limit()
application = get_wsgi_application()
garbage.look_less_often()
