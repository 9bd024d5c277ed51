"""`Idempotency-Key`: the same request gets the same answer, whatever became of the first one."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connections
from django.http import HttpResponse
from django.test import RequestFactory

from accounts import idempotency, tasks
from accounts.models import KeptAnswer
from accounts.problems import Problem

pytestmark = pytest.mark.django_db

serial = itertools.count()


def ask(key="k", body=b"[]", organization=None, answer=None, path="/api/v1/calls", **headers):
    """Send a request; its answer is new each time it is really made."""
    named = headers | ({"Idempotency-Key": key} if key is not None else {})
    request = RequestFactory().post(path, body, content_type="application/json", headers=named)
    answer = answer or (lambda: HttpResponse(f"answer {next(serial)}", content_type="text/x"))
    return idempotency.once(request, body, organization=organization, answer=answer)


def refused(status, **options):
    with pytest.raises(Problem) as raised:
        ask(**options)
    assert raised.value.status == status
    return raised.value


def age(by):
    for kept in KeptAnswer.objects.all():
        KeptAnswer.objects.filter(pk=kept.pk).update(begun_at=kept.begun_at - by)


def test_the_same_request_gets_the_same_answer(acme):
    first = ask(organization=acme)
    again = ask(organization=acme)
    assert (again.status_code, again.content, again.headers["Content-Type"]) == (200, first.content, "text/x")
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")


def test_an_answer_without_a_body_is_given_again_without(acme):
    for _ in range(2):
        response = ask(answer=lambda: HttpResponse(status=204))
        assert (response.status_code, response.content) == (204, b"")


def test_without_the_header_nothing_is_asked_of_the_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert ask(key=None).content != ask(key=None).content


@pytest.mark.parametrize(
    "other", [{"body": b"[1]"}, {"path": "/api/v1/events"}, {"Prefer": "return=representation"}, {"ce-id": "7"}]
)
def test_a_key_that_stands_for_another_request_is_refused(other):
    first = ask()
    assert refused(422, **other).slug == "idempotency-key-reused"
    assert ask().content == first.content


def test_i16_organizations_and_the_vendor_have_keys_of_their_own(acme, other):
    answers = {ask(organization=whose).content for whose in (acme, other, None)}
    assert len(answers) == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é", "a\x7f"])
def test_a_key_that_is_none_is_refused(key):
    assert refused(400, key=key).slug == "invalid-idempotency-key"


@pytest.mark.parametrize("error", [Problem(429, "busy", "Busy"), OperationalError("away"), KeyboardInterrupt()])
def test_a_request_that_failed_leaves_the_key_free(error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        ask(answer=fail)
    assert not KeptAnswer.objects.exists()
    assert ask(body=b"[1]").status_code == 200


def test_a_request_at_work_is_not_made_twice():
    def meanwhile():
        problem = refused(409)
        assert problem.headers["Retry-After"] == "1"
        return HttpResponse("done")

    assert ask(answer=meanwhile).content == b"done"
    assert ask().content == b"done"


def test_f13_who_died_at_work_holds_the_key_for_a_minute():
    KeptAnswer.objects.create(key="k", request=b"other")
    age(timedelta(minutes=5))
    refused(422)  # of another content: it may have had its effect, and its sender may ask for the answer
    KeptAnswer.objects.all().delete()

    def die():
        refused(409)
        age(timedelta(seconds=55))
        refused(409)
        age(timedelta(seconds=10))
        assert ask(answer=lambda: HttpResponse("by the successor")).content == b"by the successor"
        return HttpResponse("too late")

    assert ask(answer=die).content == b"too late"
    assert ask().content == b"by the successor", "what was taken over is not overwritten"


def test_an_answer_is_kept_for_a_day():
    first = ask()
    age(timedelta(hours=23, minutes=59))
    assert ask().content == first.content
    age(timedelta(minutes=2))
    assert ask(body=b"[1]").content != first.content


def test_answers_are_forgotten_after_a_day():
    ask("old")
    age(timedelta(hours=25))
    ask("new")
    tasks.forget_answers()
    assert KeptAnswer.objects.get().key == "new"


@pytest.mark.django_db(transaction=True)
def test_f27_of_many_at_once_one_is_made_and_the_others_get_its_answer_or_are_told_to_wait():
    made, together = [], threading.Barrier(8)

    def answer():
        made.append(1)
        return HttpResponse("made once")

    def send(_):
        together.wait()
        try:
            return ask(answer=answer).content
        except Problem as problem:
            return problem.status
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(send, range(8)))
    assert len(made) == 1
    assert set(results) <= {b"made once", 409}
    assert ask().content == b"made once"
