import json
import sys
from types import ModuleType

import pytest

from billing_portal.local import bench, benchmark, latencies
from billing_portal.local.bench import Figure, __main__, at_least, at_most


@pytest.mark.parametrize(
    ("figure", "holds"),
    [
        (Figure("f", 4, "ms", limit=2, goal=at_most(2)), True),
        (Figure("f", 4.1, "ms", limit=2, goal=at_most(2)), False),
        (Figure("f", 50, "tx/s", limit=2, goal=at_least(25)), True),
        (Figure("f", 49, "tx/s", limit=2, goal=at_least(25)), False),
        (Figure("f", 3, "ms", goal=at_most(2)), False),
        (Figure("f", 3, "ms", limit=1), None),
    ],
)
def test_a_goal_is_about_the_ratio_to_the_limit_or_else_about_the_value(figure, holds):
    assert figure.holds is holds
    assert json.loads(figure.as_json())["holds"] is holds
    assert ("MISSED" in figure.as_text()) is (holds is False)


def test_a_figure_is_one_line_with_its_yardstick():
    figure = Figure("authorization, p95", 4.5, "ms", limit=3, goal=at_most(2))
    assert " ".join(figure.as_text().split()) == "authorization, p95 4.5 ms limit 3 1.5 × goal ≤ 2 × holds"
    assert json.loads(figure.as_json()) == {
        "name": "authorization, p95",
        "value": 4.5,
        "unit": "ms",
        "limit": 3,
        "ratio": 1.5,
        "goal": "≤ 2",
        "holds": True,
    }


@pytest.mark.parametrize(("bound", "code"), [(1, 0), (0, 1)])
def test_a_missed_goal_ends_with_1(bound, code, monkeypatch, capsys):
    subject = ModuleType(f"{bench.__name__}.sample")
    subject.measure = lambda options: [Figure("sample", 1, "ms", goal=at_most(bound)), Figure("other", 5, "ms")]
    monkeypatch.setitem(sys.modules, subject.__name__, subject)
    monkeypatch.setattr(sys, "argv", ["bench", "sample", "--json"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == code
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["sample", "other"]


def test_an_unknown_subject_is_refused_with_those_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["manage.py bench", "nothing"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "machine" in capsys.readouterr().err


def test_calls_are_timed_in_turn_after_a_warm_up():
    order = []
    taken = latencies.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=1)
    assert order == ["a", "b"] * 4
    assert {name: len(times) for name, times in taken.items()} == {"a": 3, "b": 3}


def test_a_percentile_is_a_value_that_was_measured():
    assert latencies.percentile([float(n) for n in range(1, 101)], 95) == 95
    assert latencies.percentile([3.0, 1.0, 2.0], 50) == 2
    assert latencies.percentile([7.0], 95) == 7
