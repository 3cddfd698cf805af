from __future__ import annotations

import pytest

from siliconflow_provider.inputs.problems import LONGEST_PROBLEM, ItemNumbers, Problems


def test_the_first_problems_are_in_source_order() -> None:
    problems = Problems()
    for number in [*range(40, 20, -1), 1, *range(50, 60)]:
        problems.add(number, "wrong")
    assert problems.texts() == [f"item {number}: wrong" for number in (1, *range(21, 30))] + ["and 21 more"]


@pytest.mark.parametrize(
    ("count", "items", "summary"),
    [
        (1, 4800, ("1 of 4,800 lines is invalid", "fix it and rerun the task")),
        (2, 5000, ("2 of 5,000 lines are invalid", "fix them and rerun the task")),
        (1, 1, ("1 of 1 line is invalid", "fix it and rerun the task")),
    ],
)
def test_the_summary_agrees_with_its_numbers(count: int, items: int, summary: tuple[str, str]) -> None:
    problems = Problems()
    problems.noun = "line"
    for number in range(count):
        problems.add(number, "wrong")
    assert problems.summary(items) == summary


def test_a_problem_is_one_line_of_limited_length() -> None:
    problems = Problems()
    problems.add(1, "x\n" * 100_000, "a\x1b")
    (text,) = problems.texts()
    assert text.startswith("item 1 (a\\x1b): x\\nx\\n")
    assert len(text) < LONGEST_PROBLEM + 100
    assert text.isprintable()


def test_items_of_several_files_count_in_theirs() -> None:
    problems = Problems()
    for name, items_before in (("a.jsonl", 0), ("empty.jsonl", 3), ("b.jsonl", 3)):
        problems.start_file(name, items_before)
    problems.noun = "line"
    names = [problems.name_of(number) for number in (1, 3, 4, 1_004)]
    assert names == ["line 1 of a.jsonl", "line 3 of a.jsonl", "line 1 of b.jsonl", "line 1,001 of b.jsonl"]


def test_positions_become_numbers_of_their_items() -> None:
    items = [2, 3, 6, 7, 8, 20]
    numbers = ItemNumbers()
    for position, item in enumerate(items):
        numbers.add(position, item)
    assert [numbers.number_of(position) for position in range(len(items))] == items


def test_blocks_of_requests_become_numbers_of_items() -> None:
    numbers = ItemNumbers()
    for position, item in ((0, 1), (3, 5), (5, 7), (9, 12)):
        numbers.add(position, item)
    assert [numbers.number_of(position) for position in range(11)] == [1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 13]
