"""The Celery application. The schedule stands in `settings.CELERY_BEAT_SCHEDULE`."""

import os

from celery import Celery
from celery.signals import worker_process_init
from django_structlog.celery.steps import DjangoStructLogInitStep

from accounts import garbage

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "billing_portal.settings")

app = Celery("billing_portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.steps["worker"].add(DjangoStructLogInitStep)


@worker_process_init.connect
def _look_for_garbage_less_often(**_: object) -> None:
    garbage.look_less_often()
