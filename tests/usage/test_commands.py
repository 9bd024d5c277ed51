"""`manage.py rate`, `import_calls` and `sample_calls`, on files as people have them."""

import gzip
import json
import lzma
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Organization
from tests.charged import all_charges
from usage import call_files, imports, ingestion, prices
from usage.call_items import FileUnreadable
from usage.models import Call

PARLEY = Path(prices.__file__).parent / "price_books" / "parley.toml"
# From a call log that a customer of Retell's published; costs are in cents, and never used.
REAL_CALL = {
    "call_id": "Jabr9TXYYJHfvl6Syypi88rdAHYHmcq6",
    "call_type": "web_call",
    "call_status": "ended",
    "start_timestamp": 1760000000000,
    "end_timestamp": 1760000097000,
    "duration_ms": 97000,
    "llm_token_usage": {"average": 4982.25, "num_requests": 8},
    "call_cost": {
        "product_costs": [
            {"product": "elevenlabs_tts", "cost": 11.3166667},
            {"product": "gemini_2_0_flash", "cost": 0.97},
            {"product": "llm_token_surcharge", "cost": 0.42},
            {"product": "background_voice_cancellation", "cost": 0.8083333},
            {"product": "post_call_analysis_gpt_4o", "cost": 1.7},
        ],
        "combined_cost": 15.215,
    },
}
REAL_LINES = {
    "elevenlabs_tts": 113_167,
    "gemini_2_0_flash": 9_700,
    "background_voice_cancellation": 8_083,
    "post_call_analysis_gpt_4o": 17_000,
    "llm_token_surcharge": 4_200,
}
Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command and return what it printed."""

    def call(name: str, *arguments: object) -> str:
        capsys.readouterr()
        call_command(name, *map(str, arguments))
        return capsys.readouterr().out

    return call


@pytest.fixture
def listed(db: None) -> None:
    prices.load(tomllib.loads(PARLEY.read_text()), now=datetime(2025, 1, 1, tzinfo=UTC))


def a_call(number: int, **fields: Any) -> dict[str, Any]:
    return {**REAL_CALL, "call_id": f"call_{number}", "organization": "acme", **fields}


def lines_of(path: Path, calls: list[Any]) -> Path:
    path.write_text("".join((call if isinstance(call, str) else json.dumps(call)) + "\n" for call in calls))
    return path


# ── rate ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_real_call_costs_152_150_micros_line_by_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "call.json"
    file.write_text(json.dumps(REAL_CALL, indent=2))
    printed = run("rate", file, "--prices", PARLEY)
    rows = {cells[0]: cells for cells in map(str.split, printed.splitlines()) if cells}
    assert {product: int(rows[product][-2].replace(",", "")) for product in REAL_LINES} == REAL_LINES
    assert rows["total"] == ["total", "152,150", "0.152150"]
    assert rows["llm_token_surcharge"][1:3] == ["42", "s"]
    assert len(rows) == 3 + len(REAL_LINES)


@pytest.mark.django_db
def test_stored_prices_are_the_default(run: Run, listed: None, tmp_path: Path) -> None:
    file = lines_of(tmp_path / "calls.jsonl", [REAL_CALL, REAL_CALL])
    answers = [json.loads(line) for line in run("rate", file, "--json").splitlines()]
    assert [answer["amount_micros"] for answer in answers] == [152_150, 152_150]
    assert {line["product"]: line["micros"] for line in answers[0]["lines"]} == REAL_LINES
    assert answers[0] | {"lines": []} == {
        "call_id": REAL_CALL["call_id"],
        "book": "parley-usd",
        "version": 1,
        "currency": "USD",
        "lines": [],
        "amount_micros": 152_150,
    }
    assert not Call.objects.exists()


def test_a_book_or_an_organization_names_the_prices(
    run: Run, listed: None, tmp_path: Path, make_organization: Callable[..., Organization]
) -> None:
    make_organization("berlin", currency="EUR")
    file = lines_of(tmp_path / "calls.jsonl", [REAL_CALL])
    by_book = run("rate", file, "--json", "--book", "parley-eur")
    assert json.loads(by_book)["currency"] == "EUR"
    assert run("rate", file, "--json", "--organization", "berlin") == by_book
    assert run("rate", file, "--json", "--prices", PARLEY, "--book", "parley-eur") == by_book


def test_a_call_that_cannot_be_rated_is_named_and_the_rest_is_priced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {**REAL_CALL, "call_id": "strange", "products": ["gpt_99"]}
    file = lines_of(tmp_path / "calls.jsonl", [unknown, "{not json", {**REAL_CALL, "duration_ms": -1}, REAL_CALL])
    with pytest.raises(CommandError, match="3 of the calls could not be rated") as caught:
        call_command("rate", str(file), "--prices", str(PARLEY), "--json")
    assert caught.value.returncode == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["amount_micros"] for line in out.splitlines()] == [152_150]
    complaints = err.splitlines()
    assert "line 1: strange: No price for gpt_99." in complaints[0]
    assert "line 2: " in complaints[1]
    assert "line 3: duration_ms: " in complaints[2]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "No prices are stored"),
        (["--book", "none"], "There is no price book none"),
        (["--organization", "none"], "There is no organization none"),
        (["--prices", "/nowhere.toml"], "cannot be read"),
    ],
)
def test_missing_prices_are_said_plainly(tmp_path: Path, arguments: list[str], reason: str) -> None:
    file = lines_of(tmp_path / "calls.jsonl", [REAL_CALL])
    with pytest.raises(CommandError, match=reason):
        call_command("rate", str(file), *arguments)


# ── import_calls ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["c.json", "c.jsonl", "c.json.gz", "c.jsonl.gz", "c.jsonl.xz", "pretty.json"])
def test_calls_are_imported_from_every_kind_of_file(
    run: Run, listed: None, acme: Organization, tmp_path: Path, name: str
) -> None:
    calls = [a_call(number) for number in range(7)]
    text = (
        "\n".join(map(json.dumps, calls)) if "jsonl" in name else json.dumps(calls, indent=2 if "y" in name else None)
    )
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(Path(name).suffix, open)
    with opener(tmp_path / name, "wt") as file:
        file.write(text)
    assert "7 recorded, 0 duplicate, 0 conflict, 0 rejected." in run("import_calls", tmp_path / name)
    assert len(all_charges(organization=acme, amount_micros=152_150)) == 7


def test_an_import_can_be_repeated(run: Run, listed: None, acme: Organization, tmp_path: Path) -> None:
    file = lines_of(tmp_path / "calls.jsonl", [a_call(number) for number in range(2500)])
    assert "2,500 recorded, 0 duplicate" in run("import_calls", file)
    assert "0 recorded, 2,500 duplicate" in run("import_calls", file)
    assert Call.objects.count() == 2500


def test_the_first_wrong_call_is_named_and_the_others_are_recorded(
    listed: None, acme: Organization, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [a_call(1), "", a_call(1, duration_ms=5), a_call(2, duration_ms=-1), '{"call_id": ', a_call(3)]
    file = lines_of(tmp_path / "calls.jsonl", calls)
    with pytest.raises(CommandError) as caught:
        call_command("import_calls", str(file))
    assert caught.value.returncode == 1
    out = capsys.readouterr().out
    assert "2 recorded, 0 duplicate, 1 conflict, 2 rejected." in out
    assert "First rejected: line 4 (call_2): duration_ms: " in out


def test_an_array_that_breaks_off_keeps_what_stands_before(
    listed: None, acme: Organization, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "calls.json"
    file.write_text(f'[\n{json.dumps(a_call(1))},\n{json.dumps(a_call(2))},\n{{"call_id"')
    with pytest.raises(CommandError, match=r"Line 4: .* What stands before that is recorded"):
        call_command("import_calls", str(file))
    assert "2 recorded" in capsys.readouterr().out
    assert Call.objects.count() == 2


def test_an_organization_may_be_named_for_the_whole_file(
    run: Run, listed: None, acme: Organization, tmp_path: Path
) -> None:
    file = lines_of(tmp_path / "calls.jsonl", [REAL_CALL])
    assert "1 recorded" in run("import_calls", file, "--organization", "acme")
    with pytest.raises(CommandError, match="There is no organization none"):
        run("import_calls", file, "--organization", "none")


def test_a_large_array_is_read_item_by_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_files, "_CHUNK", 100)
    calls = [a_call(number, metadata={"note": "é\n[{,"}) for number in range(200)]
    (tmp_path / "calls.json").write_text("\n " + json.dumps(calls, ensure_ascii=False) + "\n")
    with call_files.open_file(tmp_path / "calls.json") as file:
        assert [json.loads(item.raw) for item in file.items] == calls


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    endless = '{"call_id": "' + "x" * 3_000_000
    file = lines_of(tmp_path / "calls.jsonl", [endless, REAL_CALL])
    with call_files.open_file(file) as opened:
        items = list(opened.items)
    assert [item.line for item in items] == [1, 2]
    assert len(items[0].raw) < 1_100_000


@pytest.mark.parametrize("text", ["[1 2]", "[1,]", "[1", "[1] 2", "[", "[nul]", "[" * 100_000])
def test_a_broken_array_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "calls.json").write_text(text)
    with (
        call_files.open_file(tmp_path / "calls.json") as file,
        pytest.raises(FileUnreadable, match="line 1: "),
    ):
        list(file.items)


@pytest.mark.parametrize("text", ["", " \n", "[]", "[ ]\n"])
def test_an_empty_file_holds_no_calls(tmp_path: Path, text: str) -> None:
    (tmp_path / "calls.json").write_text(text)
    with call_files.open_file(tmp_path / "calls.json") as file:
        assert list(file.items) == []


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.jsonl.xz"])
def test_a_damaged_compressed_file_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not compressed at all")
    with call_files.open_file(tmp_path / name) as file, pytest.raises(FileUnreadable, match="decompressed"):
        list(file.items)


# ── sample_calls ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sample_is_written_and_the_same_again(run: Run, tmp_path: Path) -> None:
    printed = run("sample_calls", "--calls", 50, "--months", 1, "--organizations", 3, "--seed", 4)
    run("sample_calls", "--calls", 50, "--months", 1, "--organizations", 3, "--seed", 4, "--out", tmp_path / "s.jsonl")
    assert (tmp_path / "s.jsonl").read_text() == printed
    calls = [json.loads(line) for line in printed.splitlines()]
    starts = [datetime.fromtimestamp(call["start_timestamp"] / 1000, UTC) for call in calls]
    assert len(calls) == 50
    assert {(start.year, start.month) for start in starts} == {(2026, 8)}
    assert len({call["organization"] for call in calls}) <= 3


def test_a_sample_can_be_rated_and_imported(
    run: Run, listed: None, make_organization: Callable[..., Organization], tmp_path: Path
) -> None:
    make_organization("acme-dental")
    file = tmp_path / "sample.jsonl"
    run("sample_calls", "--calls", 20, "--first-month", "2026-01", "--organizations", 1, "--out", file)
    assert len(run("rate", file, "--json").splitlines()) == 20
    assert "20 recorded" in run("import_calls", file)
    assert len(all_charges()) == 20


def test_a_sample_follows_real_arrivals(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = tmp_path / "arrivals.csv"
    arrivals.write_text("interval_start,calls\n2003-04-02T10:00:00,3\n2003-05-02T10:00:00,5\n")
    with pytest.raises(CommandError, match="--arrivals-month"):
        run("sample_calls", "--arrivals", arrivals)
    monkeypatch.setenv("ARRIVALS_FILE", str(arrivals))
    assert len(run("sample_calls", "--arrivals-month", "2003-04").splitlines()) == 3


def test_recording_takes_the_batches_of_an_import() -> None:
    assert imports.BATCH <= ingestion.MAX_ITEMS
