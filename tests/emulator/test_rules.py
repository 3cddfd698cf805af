from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.plans import Plan
from siliconflow_provider.emulator.rules import Rule, Rules, read


@pytest.mark.parametrize(
    ("fields", "hits"),
    [
        ({}, [1]),
        ({"nth": 3}, [3]),
        ({"times": 3}, [1, 2, 3]),
        ({"nth": 3, "times": 2}, [3, 4]),
        ({"every": 1}, list(range(1, 10))),
        ({"every": 3}, [3, 6, 9]),
        ({"every": 3, "nth": 1}, [1, 4, 7]),
        ({"every": 3, "times": 2}, [3, 6]),
    ],
)
def test_rule_applies_by_its_count_of_matches(fields: dict[str, int], hits: list[int]) -> None:
    rules: Rules[Rule] = Rules()
    rules.add(Rule(**fields))
    assert [number for number in range(1, 10) if rules.take(lambda rule: True)] == hits


def test_unmatched_requests_are_not_counted() -> None:
    rules: Rules[Rule] = Rules()
    rules.add(Rule(nth=2))
    taken = [rules.take(lambda rule, matches=matches: matches) for matches in (True, False, True)]
    assert [rule is not None for rule in taken] == [False, False, True]


def test_rules_for_the_next_match_take_turns() -> None:
    rules: Rules[Plan] = Rules()
    rules.add(Plan(end="failed"))
    rules.add(Plan(end="expired"))
    rules.add(Plan(nth=3, end="cancelled"))
    taken = [rules.take(lambda rule: True) for _ in range(4)]
    assert [plan and plan.end for plan in taken] == ["failed", "expired", "cancelled", None]
    assert [(rule["seen"], rule["used"]) for rule in rules.listing()] == [(4, 1)] * 3
    rules.clear()
    assert rules.listing() == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"ends": "failed"}, "plan: Object contains unknown field `ends`; there are nth, every, times, metadata, end,"),
        (
            {"failing": {"shares": 1}},
            "plan: failing: .*unknown field `shares`; there are share, positions, custom_ids,",
        ),
        ({"missing": {"code": "x"}}, "plan: missing: .*unknown field `code`; there are share, positions, custom_ids$"),
        ({"failing": {}}, "plan: failing: choose requests by share, positions or custom_ids"),
        ({"failing": {"share": 1.5}}, "plan: failing.share: Expected `float` <= 1.0"),
        ({"missing": {"positions": [-1]}}, r"plan: missing.positions\[0\]: Expected `int` >= 0"),
        ({"end": "finished"}, "plan: end: must be one of completed, failed, expired, cancelled, not 'finished'"),
        ({"stuck": "completed"}, "plan: stuck: must be one of in_queue, in_progress, finalizing, cancelling, not"),
        ({"shown_as": {"running": "x"}}, "plan: shown_as: must be one of in_queue, in_progress, .*, not 'running'"),
        ({"errors": ["x"]}, "plan: errors: only a batch with end 'failed' has errors, not 'completed'"),
        ({"errors": "x", "end": "failed"}, "plan: errors: Expected `array`, got `str`"),
        ({"nth": 0}, "plan: nth: Expected `int` >= 1"),
        ({"run_share": "half"}, "plan: run_share: Expected `float`, got `str`"),
        ({"queue_seconds": -1}, "plan: queue_seconds: Expected `float` >= 0"),
        ({"metadata": {"n": 1}}, r"plan: metadata\[...\]: Expected `str`, got `int`"),
    ],
)
def test_invalid_field_is_named_with_allowed_values(fields: dict[str, Any], error: str) -> None:
    with pytest.raises(ControlError, match=error):
        read("plan", fields, Plan)
