import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection, transaction

from billing_portal.ledger import accounts, retries
from billing_portal.ledger.models import Account


class Undone(Exception):
    sqlstate = "40P01"


class Conflicting(Exception):
    sqlstate = "40001"


class Broken(Exception):
    sqlstate = "57P01"


def failing(times, cause=Undone):
    calls = []

    @retries.whole
    def command(*given, **named):
        calls.append((given, named))
        if len(calls) <= times:
            raise OperationalError from cause()
        return "done"

    return command, calls


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(retries, "_PAUSE_SECONDS", 0)


@pytest.mark.django_db(transaction=True)
def test_f16_a_command_that_was_undone_is_run_again_as_a_whole():
    for cause in (Undone, Conflicting):
        command, calls = failing(retries.ATTEMPTS - 1, cause)
        assert command(1, now=2) == "done"
        assert calls == [((1,), {"now": 2})] * retries.ATTEMPTS


@pytest.mark.django_db(transaction=True)
def test_f16_it_gives_up_after_a_few_attempts():
    command, calls = failing(100)
    with pytest.raises(OperationalError):
        command()
    assert len(calls) == retries.ATTEMPTS


@pytest.mark.django_db(transaction=True)
def test_f16_another_failure_is_not_repeated():
    for cause in (Broken, ValueError):
        command, calls = failing(1, cause=cause)
        with pytest.raises(OperationalError):
            command()
        assert len(calls) == 1


@pytest.mark.django_db(transaction=True)
def test_f16_between_attempts_it_waits_a_random_moment_that_grows(monkeypatch):
    class Longest:
        def uniform(self, least, most):
            assert least == 0
            return most

    slept = []
    monkeypatch.undo()
    # The module's own names: other threads of the process sleep, too.
    monkeypatch.setattr(retries, "secrets", SimpleNamespace(SystemRandom=Longest))
    monkeypatch.setattr(retries, "time", SimpleNamespace(sleep=slept.append))
    with pytest.raises(OperationalError):
        failing(100)[0]()
    assert slept == [0.1, 0.2, 0.4]


@pytest.mark.django_db
def test_f16_within_a_callers_transaction_nothing_is_repeated():
    command, calls = failing(1)
    with pytest.raises(OperationalError):
        command()
    assert len(calls) == 1


@pytest.mark.django_db(transaction=True)
def test_f16_two_commands_in_a_real_deadlock_both_end_done(make_organization, now):
    """Each takes the lock that the other wants next: PostgreSQL undoes one of them, which is then run again."""
    first, second = (make_organization(name) for name in ("first", "second"))
    for organization in (first, second):
        accounts.open(organization=organization, now=now)
    both_hold_one = threading.Barrier(2)
    attempts, failures = [], []

    @retries.whole
    def raise_limits(mine, other):
        attempts.append(mine)
        with transaction.atomic():
            accounts.limit_arrears(mine, micros=1)
            if len(attempts) <= 2:
                both_hold_one.wait(10)
            accounts.limit_arrears(other, micros=2)

    def run(mine, other):
        try:
            raise_limits(mine, other)
        except Exception as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in ((first.pk, second.pk), (second.pk, first.pk))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(attempts) >= 3  # one was undone, perhaps again when they met anew
    assert sorted(Account.objects.values_list("arrears_limit_micros", flat=True)) == [1, 2]
