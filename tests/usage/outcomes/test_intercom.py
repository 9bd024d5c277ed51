"""Conversations in the shape that Intercom exports, read into events: each once, bad ones named, the rest recorded."""

import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import NOW
from tests.usage.outcomes.conftest import became
from usage import imports
from usage.models import (
    Conversation,
    ConversationEvent,
    ConversationEventDetail,
    ImportJob,
    ImportRefusal,
    OutcomeCharge,
)
from usage.outcomes import intercom

pytestmark = pytest.mark.django_db
SAMPLE = Path("usage/outcomes/samples/intercom.json")
EXPECTED = {
    "7101": ("resolution", "assumed"),
    "7102": ("resolution", "confirmed"),
    "7103": ("", "escalated"),
    "7104": ("", "needs_help"),
    "7105": ("procedure_handoff", "told"),
    "7106": ("qualification", "told"),
    "7107": ("disqualification", "told"),
    "7108": ("resolution", "confirmed"),
    "7110": ("", "no_answer"),
}


@pytest.fixture(autouse=True)
def _place(settings, tmp_path, monkeypatch):
    settings.IMPORTS_DIR = tmp_path / "imports"
    monkeypatch.setattr("accounts.clock.now", lambda: NOW)


def sample(reference="7102", **changes):
    found = next(each for each in json.loads(SAMPLE.read_text()) if each["id"] == reference)
    return {**found, **changes}


def record(*conversations, **options):
    items = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in conversations]
    return intercom.record(items, **{"now": NOW, **options})


def outcomes():
    return {each.reference: (each.outcome, each.reason) for each in Conversation.objects.all()}


def test_each_state_of_the_sample_becomes_the_outcome_that_it_stands_for(ruled, acme):
    call_command("import_conversations", SAMPLE)
    assert outcomes() == EXPECTED
    job = ImportJob.objects.get()
    assert (job.kind, job.state, job.items_done, job.recorded, job.duplicates) == ("intercom", "done", 10, 9, 1)
    assert {each.channel for each in Conversation.objects.all()} == {"conversation"}


def test_i06_importing_twice_changes_nothing(ruled, acme):
    call_command("import_conversations", SAMPLE)
    before = [list(model.objects.order_by("pk").values()) for model in (Conversation, ConversationEvent, OutcomeCharge)]
    call_command("import_conversations", SAMPLE)
    after = [list(model.objects.order_by("pk").values()) for model in (Conversation, ConversationEvent, OutcomeCharge)]
    assert before == after
    assert ImportJob.objects.latest("id").duplicates == 10


def test_a_later_export_adds_what_happened_since(ruled, acme):
    """An assumed resolution that the customer later contradicts is given back, by the newer export alone."""
    assert record(sample("7101"))[0].status == "recorded"
    assert became("7101").reason == "assumed"
    later = sample("7101")
    later["ai_agent"] |= {"resolution_state": "negative_feedback"}
    parts = later["conversation_parts"]["conversation_parts"]
    parts.append(sample("7104")["conversation_parts"]["conversation_parts"][2] | {"id": "710103"})
    parts[-1]["created_at"] = later["updated_at"] + 3600
    assert record(later)[0].status == "recorded"
    assert (became("7101").outcome, became("7101").reason) == ("", "needs_help")


def test_bad_ones_are_named_with_their_place_and_the_rest_is_recorded(ruled, acme, tmp_path):
    future = sample("7106", created_at=int(NOW.timestamp()) + 900)
    future["conversation_parts"]["conversation_parts"][1]["created_at"] = int(NOW.timestamp()) + 900
    wrong = [
        sample("7101"),
        {**sample("7102"), "ai_agent": {"resolution_state": "solved"}},
        {**sample("7103"), "company": None},
        {**sample("7104"), "company": {"company_id": "nobody"}},
        future,
        sample("7105"),
    ]
    file = tmp_path / "export.jsonl"
    lines = [json.dumps(each) for each in wrong]
    file.write_text("\n".join([*lines[:2], "{nope", '{"type": "conversation.list"}', *lines[2:]]))
    with pytest.raises(CommandError, match="Not every conversation was recorded"):
        call_command("import_conversations", file)
    kept = ImportRefusal.objects.values_list("position", "line", "call_id", "field")
    assert list(kept) == [
        (1, 2, "7102", "ai_agent.resolution_state"),
        (2, 3, "", ""),
        (3, 4, "", "type"),
        (4, 5, "7103", "company.company_id"),
        (5, 6, "7104", "organization"),
        (6, 7, "7106", "occurred_at"),
    ]
    assert {"7101", "7105"} <= outcomes().keys()
    assert not {"7102", "7103", "7104"} & outcomes().keys()


def test_f49_other_content_under_a_known_id_is_a_conflict(ruled, acme):
    record(sample("7102"))
    moved = sample("7102")
    moved["conversation_parts"]["conversation_parts"][1]["created_at"] += 60
    answer = record(moved)[0]
    assert (answer.status, answer.field) == ("conflict", "event_id")
    assert "intercom:7102:part:710202" in answer.reason
    assert became("7102").outcome == "resolution"


def test_f14_an_import_that_was_cut_short_goes_on_and_counts_everything_once(ruled, acme, monkeypatch):
    monkeypatch.setattr(imports, "BATCH", 2)
    content = "\n".join(json.dumps(each) for each in json.loads(SAMPLE.read_text())).encode()
    job = imports.upload(iter([content]), name="export.jsonl", kind="intercom", organization=acme, now=NOW)

    def die(job):
        if job.items_done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imports.run(job.pk, clock=lambda: NOW, watch=die)
    imports.run(job.pk, clock=lambda: NOW)
    job.refresh_from_db()
    assert (job.state, job.items_done, job.recorded) == ("done", 10, 9)
    assert outcomes() == EXPECTED


def test_conversations_do_not_come_as_a_table(ruled):
    with pytest.raises(imports.FormatUnknown, match="Conversations come as JSON"):
        imports.check_name("export.csv", "intercom")


def test_no_text_and_no_address_is_kept(ruled, acme):
    record(*json.loads(SAMPLE.read_text()))
    assert not ConversationEventDetail.objects.exists()


def test_a_conversation_of_a_list_has_no_parts_and_is_judged_by_its_state(ruled, acme):
    for reference in ("7101", "7103", "7104", "7105"):
        record(sample(reference, conversation_parts=None))
    assert outcomes() == {name: EXPECTED[name] for name in ("7101", "7103", "7104", "7105")}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = [
    "id",
    "created_at",
    "ai_agent",
    "sales_agent",
    "conversation_parts",
    "statistics",
    "source",
    "company",
    "type",
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1), st.binary(max_size=40))
def test_whatever_is_sent_is_answered(ruled, acme, changes, noise):
    answers = record(sample("7102", **changes), noise)
    assert len(answers) == 2
    assert all(answer.reason for answer in answers if answer.status in {"rejected", "conflict"})
