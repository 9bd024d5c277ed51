"""Packed bodies, and bodies of unknown length: taken within the limit, else refused before they cost anything."""

import gzip
import tracemalloc
import zlib

import pytest
from django.test import RequestFactory

from accounts.problems import Problem
from tests.usage.conftest import call_object, problem, raw
from usage.api import encodings

pytestmark = pytest.mark.django_db
LIMIT = 10 * 1024 * 1024
CALLS, EVENTS = "/api/v1/calls", "/api/v1/events"


def post(client, body, encoding="gzip", path=CALLS):
    return client.post(path, body, content_type="application/json", headers={"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_a_gzip_body_means_what_it_packs(priced, acme, vendor, encoding):
    body = gzip.compress(raw([call_object()]))
    assert post(vendor, body, encoding).json()["recorded"] == 1
    assert post(vendor, raw([call_object()]), "identity").json()["duplicates"] == 1


def test_a_gzip_body_of_several_members_is_one_text(priced, acme, vendor):
    text = raw([call_object()])
    body = b"".join(gzip.compress(text[at : at + 50]) for at in range(0, len(text), 50))
    assert post(vendor, body).json()["recorded"] == 1


def test_f12_faults_are_placed_in_the_unpacked_text(vendor):
    document = problem(post(vendor, gzip.compress(b"[1,{]")), 400, "unreadable-body")
    assert (document["position"], document["index"]) == (4, 1)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "identity, gzip"])
@pytest.mark.parametrize("path", [CALLS, EVENTS])
def test_another_encoding_is_refused_and_the_known_one_named(vendor, encoding, path):
    response = post(vendor, b"[]", encoding, path)
    problem(response, 415, "unsupported-encoding")
    assert response.headers["Accept-Encoding"] == "gzip"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        zlib.compress(b"[]"),
        gzip.compress(b"[]", mtime=0)[:-1],
        gzip.compress(b"[]", mtime=0)[:5],
        gzip.compress(b"[]", mtime=0) + b"more",
        gzip.compress(b"", mtime=0) * 300,
    ],
)
def test_what_is_no_gzip_is_a_problem(vendor, body):
    problem(post(vendor, body), 400, "unreadable-body")


@pytest.mark.parametrize("body", [b"", gzip.compress(b"", mtime=0), gzip.compress(b" \n", mtime=0)])
@pytest.mark.parametrize("path", [CALLS, EVENTS])
def test_an_empty_body_is_a_problem(vendor, body, path):
    problem(post(vendor, body, "gzip" if body else "identity", path), 400, "unreadable-body")


@pytest.mark.parametrize("path", [CALLS, EVENTS])
def test_f09_the_limit_holds_for_the_unpacked_text(vendor, path):
    assert post(vendor, gzip.compress(b"[]" + b" " * (LIMIT - 2))).status_code == 200
    response = post(vendor, gzip.compress(b"[]" + b" " * (LIMIT - 1)), path=path)
    assert problem(response, 413, "body-too-large")["limit"] == LIMIT


@pytest.mark.parametrize("members", [1, 200])
def test_f09_a_bomb_is_not_unpacked(vendor, members):
    bomb = gzip.compress(b"0" * (LIMIT // members * 100)) * members
    assert len(bomb) < LIMIT / 5
    tracemalloc.start()
    problem(post(vendor, bomb), 413, "body-too-large")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * LIMIT


class Endless:
    """The input of a request without an end."""

    def __init__(self):
        self.given = 0

    def read(self, size):
        self.given += size
        return b"0" * size


def chunked(stream, **environ):
    request = RequestFactory().post(CALLS, content_type="application/json", HTTP_TRANSFER_ENCODING="chunked", **environ)
    request.META["wsgi.input"] = stream
    return request


def test_f09_a_body_in_chunks_is_read_up_to_the_limit():
    stream = Endless()
    with pytest.raises(Problem) as raised:
        encodings.body_of(chunked(stream, **{"wsgi.input_terminated": True}))
    assert (raised.value.status, stream.given) == (413, LIMIT + 1)


def test_a_body_in_chunks_behind_a_server_that_does_not_end_it_is_refused():
    with pytest.raises(Problem) as raised:
        encodings.body_of(chunked(Endless()))
    assert raised.value.status == 411
