"""The outbox: written once, sent after the commit, again only when nobody knows whether it was."""

import threading
from datetime import timedelta

import pytest
from django.core import mail as outbox
from django.db import connection, transaction

from accounts import letters, mail, posting
from accounts.models import Letter, Membership
from tests.conftest import join

LETTER = "account/email/password_changed"


def write(organization, now, *, reference="r1", to=("alice@acme.example",)):
    return letters.write(template=LETTER, reference=reference, to=to, now=now, organization=organization, timestamp=now)


@pytest.mark.django_db(transaction=True)
def test_a_letter_is_sent_when_the_transaction_is_committed(acme, now):
    with transaction.atomic():
        assert write(acme, now) == 1
        assert outbox.outbox == []
    assert [message.to for message in outbox.outbox] == [["alice@acme.example"]]
    assert Letter.objects.get().sent_at is not None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_of_what_was_rolled_back(acme, now):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        write(acme, now)
        1 / 0  # noqa: B018
    assert outbox.outbox == []
    assert not Letter.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_i06_a_reference_is_written_to_an_address_once(acme, now):
    write(acme, now)
    assert write(acme, now) == 0
    assert write(acme, now, to=["ALICE@acme.example", "bills@acme.example", "", "bills@acme.example"]) == 1
    assert sorted(message.to[0] for message in outbox.outbox) == ["alice@acme.example", "bills@acme.example"]


@pytest.mark.django_db(transaction=True)
def test_f01_written_from_twenty_threads_at_once_a_letter_is_one(acme, now):
    start = threading.Barrier(20)

    def work():
        start.wait()
        try:
            write(acme, now)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outbox.outbox) == 1


@pytest.mark.django_db
def test_f20_what_the_broker_lost_is_found_by_the_sweep_and_a_refusal_is_tried_again(acme, now, monkeypatch):
    write(acme, now)  # the test's transaction is never committed: no task is queued

    def refuse(composed):
        raise ConnectionRefusedError

    with monkeypatch.context() as patched:
        patched.setattr(mail, "deliver", refuse)
        assert posting.post(Letter.objects.all(), now=now) == 0
    assert posting.post(Letter.objects.all(), now=now) == 0  # its lease runs
    Letter.objects.update(claimed_at=now - timedelta(days=400))
    assert posting.post(Letter.objects.all(), now=now) == 1
    assert posting.post(Letter.objects.all(), now=now) == 0
    assert len(outbox.outbox) == 1


@pytest.mark.django_db
def test_f24_a_letter_that_fails_again_and_again_is_left_alone(acme, now, monkeypatch):
    write(acme, now)
    Letter.objects.update(attempts=posting.ATTEMPTS)
    assert posting.post(Letter.objects.all(), now=now) == 0


@pytest.mark.django_db
def test_old_letters_are_forgotten(acme, now):
    write(acme, now)
    assert posting.forget(now=now + posting.KEPT_FOR) == 0
    assert posting.forget(now=now + posting.KEPT_FOR + timedelta(seconds=1)) == 1


@pytest.mark.django_db
def test_money_is_written_to_the_billing_address_and_the_billing_managers_else_to_the_owners(acme, make_user):
    assert letters.billing_addresses(acme) == ["alice@acme.example"]
    join(acme, make_user("bea@acme.example"), Membership.Role.BILLING)
    assert letters.billing_addresses(acme) == ["bea@acme.example"]
    acme.billing_email = "Bills@acme.example"
    assert letters.billing_addresses(acme) == ["bills@acme.example", "bea@acme.example"]
