"""The WSGI application that gunicorn preloads."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from accounts import web_connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_portal.settings")

web_connections.limit()
application = get_wsgi_application()

# What a process has loaded stays, so it need not be searched for garbage again and again; and a request that records a
# thousand calls makes tens of thousands of objects and few circles: a quarter of its time went into looking for them.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 50)
