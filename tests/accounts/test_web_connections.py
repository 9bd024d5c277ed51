import pytest
from django.db import connection
from django.db.backends.signals import connection_created

from accounts import web_connections

_ID = "accounts.web_connections"


@pytest.mark.django_db(transaction=True)
def test_connections_of_a_web_process_give_up_and_others_do_not(settings):
    settings.WEB_STATEMENT_TIMEOUT_SECONDS, settings.WEB_LOCK_TIMEOUT_SECONDS = 7, 3

    def timeouts():
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
            return cursor.fetchone()

    assert timeouts() == ("0", "0")
    web_connections.limit()
    try:
        assert timeouts() == ("7s", "3s")
    finally:
        connection_created.disconnect(dispatch_uid=_ID)
        connection.close()
