"""Tables of calls mean the same as the call objects that their columns name."""

import gzip
import json
import lzma
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest

from usage import call_files, call_objects
from usage.call_items import FileUnreadable

NOW = datetime(2026, 10, 15, 9, 30, tzinfo=UTC)
FIELDS = {
    "call_id": "call_1",
    "organization": "acme",
    "call_type": "phone_call",
    "call_status": "ended",
    "start_timestamp": 1_760_000_000_000,
    "duration_ms": 97_000,
    "products": ["platform", "elevenlabs_tts"],
    "metadata": {"deal": "7", "nested": {"a": [1]}},
    "llm_token_usage": {"average": 4982.25, "num_requests": 8},
    "colour": "red",
}
CSV = (
    "call_id,organization,call_type,call_status,start_timestamp,duration_ms,products,metadata,"
    "llm_token_usage.average,llm_token_usage.num_requests,colour,agent_id\r\n"
    'call_1,acme,phone_call,ended,1760000000000,97000,platform; elevenlabs_tts,"{""deal"": ""7"", ""nested"": '
    '{""a"": [1]}}",4982.25,8,red,\r\n'
)


def items(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with call_files.open_file(tmp_path / name) as file:
        return list(file.items), file.bytes_read()


def digest(raw):
    return call_objects.decode(raw, now=NOW).digest


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calls.csv", CSV.encode()),
        ("calls.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("calls.csv", CSV.replace("\r\n", "\n").encode()),
        ("calls.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("calls.csv.xz", lzma.compress(CSV.encode())),
    ],
)  # fmt: skip
def test_a_row_is_the_call_object_that_its_columns_name(tmp_path, name, content):
    [item], read = items(tmp_path, name, content)
    assert json.loads(item.raw) == FIELDS
    assert (item.line, item.fault) == (2, "")
    assert digest(item.raw) == digest(json.dumps(FIELDS).encode())
    assert read == len(content)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_shows_what_separates_cells(tmp_path, delimiter):
    text = delimiter.join(("call_id", "call_type", "note")) + "\n" + delimiter.join(("c", "web_call", "x"))
    [item], _ = items(tmp_path, "calls.tsv" if delimiter == "\t" else "calls.csv", text.encode())
    assert json.loads(item.raw) == {"call_id": "c", "call_type": "web_call", "note": "x"}


def test_a_row_that_fits_no_header_is_named_and_the_others_go_on(tmp_path):
    text = b'call_id,note\na,"two\nlines"\nb,1,2,3\n\nc\nd,\n'
    found, _ = items(tmp_path, "calls.csv", text)
    assert [(item.line, item.fault[:17]) for item in found] == [(2, ""), (4, "The row has 4 cel"), (6, ""), (7, "")]
    assert json.loads(found[0].raw)["note"] == "two\nlines"
    assert [json.loads(item.raw) for item in found[2:]] == [{"call_id": "c"}, {"call_id": "d"}]


def test_what_is_no_number_or_object_is_left_to_be_refused(tmp_path):
    text = b"call_id,duration_ms,metadata,start_timestamp\na,ninety,not json,2026-10-01T00:00:00Z\nb,1e5,5,0x1\n"
    found, _ = items(tmp_path, "calls.csv", text)
    assert json.loads(found[0].raw) == {
        "call_id": "a",
        "duration_ms": "ninety",
        "metadata": "not json",
        "start_timestamp": "2026-10-01T00:00:00Z",
    }
    assert json.loads(found[1].raw) == {"call_id": "b", "duration_ms": "1e5", "metadata": 5, "start_timestamp": "0x1"}


def test_a_number_past_64_bits_stays_what_it_is(tmp_path):
    [item], _ = items(tmp_path, "calls.csv", f"call_id,duration_ms\na,{2**80}\n".encode())
    assert json.loads(item.raw)["duration_ms"] == 2**80


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", b"a,b\n1,2\n", b"call_id,call_id\n1,2\n", b"call_id,\n1,2\n", b"call_id\n\xff\n",
        b'call_id\n"' + b"x" * 2_000_000,
    ],
)  # fmt: skip
def test_a_table_without_a_sound_header_or_encoding_is_refused(tmp_path, text):
    with pytest.raises(FileUnreadable):
        items(tmp_path, "calls.csv", text)


def test_a_field_and_a_field_within_it_exclude_each_other(tmp_path):
    [item], _ = items(tmp_path, "calls.csv", b'call_id,metadata,metadata.a\nx,"{}",1\n')
    assert "metadata" in item.fault


def parquet(tmp_path, rows, **options):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "calls.parquet", **options)
    return items(tmp_path, "calls.parquet", (tmp_path / "calls.parquet").read_bytes())


def test_a_parquet_row_is_the_call_object_that_its_columns_name(tmp_path):
    typed = FIELDS | {
        "start_timestamp": datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC),
        "llm_token_usage": {"average": Decimal("4982.25"), "num_requests": 8},
        "metadata": json.dumps(FIELDS["metadata"]),
        "agent_id": None,
    }
    [item], read = parquet(tmp_path, [typed])
    assert digest(item.raw) == digest(json.dumps(FIELDS).encode())
    assert (item.line, read) == (1, (tmp_path / "calls.parquet").stat().st_size)


def test_a_long_parquet_file_is_read_in_parts_and_says_how_far_it_is(tmp_path):
    rows = [{"call_id": f"call_{number}", "duration_ms": number} for number in range(5000)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "calls.parquet", row_group_size=700)
    with call_files.open_file(tmp_path / "calls.parquet") as file:
        found = []
        for item in file.items:
            found.append(json.loads(item.raw)["call_id"])
            assert file.bytes_read() == file.size * len(found) // 5000
    assert found == [row["call_id"] for row in rows]


@pytest.mark.parametrize("content", [b"", b"PAR1 but not really PAR1", b"call_id\nx\n"])
def test_what_is_no_parquet_is_refused(tmp_path, content):
    with pytest.raises(FileUnreadable, match="Parquet"):
        items(tmp_path, "calls.parquet", content)
