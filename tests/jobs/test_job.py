from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from siliconflow_provider.inputs.parts import Part
from siliconflow_provider.jobs.job import Inherited, Job, Reuse, Round, fingerprint

FIRST = Part(first=0, lines=4, offset=0, bytes=40, sha256="a" * 64)
LAST = Part(first=4, lines=1, offset=40, bytes=10, sha256="b" * 64)
FIELDS: dict[str, Any] = {
    "key": "key-1",
    "task": "dag/task/run/-1",
    "definition": {"model": "1", "prompt": "2"},
    "requests": 5,
    "has_rows": False,
    "first_round": Round(1, [FIRST, LAST], 0, 1_800_000_000),
}


@pytest.mark.parametrize(
    ("number", "indexes", "first", "last"),
    [(1, [], [0, 1, 2, 3], [4]), (2, [3, 5, 7, 9, 11], [3, 5, 7, 9], [11])],
)
def test_part_lines_have_positions_in_the_job(
    number: int, indexes: list[int], first: list[int], last: list[int]
) -> None:
    round_ = Round(number, [FIRST, LAST], 0, 0, indexes)
    assert [list(round_.indexes_of(part)) for part in round_.parts] == [first, last]


@pytest.mark.parametrize(
    "other",
    [
        {"key": "key-2"},
        {"definition": {"model": "1", "prompt": "3"}},
        {"requests": 6},
        {"first_round": Round(1, [FIRST], 0, 1_800_000_000)},
        {"first_round": Round(1, [FIRST, LAST], 1, 1_800_000_000)},
        {"first_round": Round(1, [FIRST, LAST], 0, 1_800_000_001)},
    ],
)
def test_different_jobs_have_different_ids(other: dict[str, Any]) -> None:
    """A later job with the same requests differs too, since it has its own rounds."""
    assert Job(**FIELDS).id != Job(**{**FIELDS, **other}).id


def test_a_job_survives_writing_and_reading() -> None:
    job = Job(**FIELDS)
    read = msgspec.json.decode(msgspec.json.format(msgspec.json.encode(job), indent=2), type=Job)
    assert (read, read.id) == (job, job.id)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_a_job_of_another_schema_is_rejected(version: Any) -> None:
    written = msgspec.json.encode({**msgspec.to_builtins(Job(**FIELDS)), "schema_version": version})
    with pytest.raises(msgspec.ValidationError, match="schema_version"):
        msgspec.json.decode(written, type=Job)


@pytest.mark.parametrize(
    ("definition", "changes"),
    [
        ({"model": "1", "prompt": "2"}, []),
        ({"prompt": "3", "model": "0"}, ["prompt", "model"]),
        ({"model": "1", "prompt": "2", "seed": "4"}, ["seed"]),
        ({"model": "1"}, []),
        ({"model": "", "prompt": "2"}, []),
    ],
)
def test_changed_arguments_are_named(definition: dict[str, str], changes: list[str]) -> None:
    """An argument unknown to the job counts as changed; one that only the job has, or an unknown value, does not."""
    assert Job(**FIELDS).changes(["key-1"], definition) == changes
    assert Job(**FIELDS).changes(["key-2"], definition) == ["submission_key", *changes]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("directory", value) for value in ("../a", "/etc", ".", "a" * 31, "A" * 32, "a" * 32 + "\n", "a\0")),
        *(("sha256", value) for value in ("", "../" * 11, "a" * 63 + "/")),
        *((name, value) for name in ("first", "lines", "offset", "bytes") for value in (-1, 2**53)),
    ],
)
def test_parts_of_paths_and_positions_are_checked(name: str, value: Any) -> None:
    """A job.json that others have written leads to no file outside of its directory."""
    written = msgspec.to_builtins(Job(**FIELDS))
    (written if name == "directory" else written["first_round"]["parts"][0])[name] = value
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(written, Job)


def test_unknown_values_count_as_unchanged() -> None:
    job = Job(**{**FIELDS, "definition": {"model": "1", "file": ""}})
    assert job.changes(["key-1"], {"model": "1", "file": "3"}) == []


def test_all_requests_include_those_not_sent() -> None:
    whole, rest = Round(1, [FIRST, LAST], 0, 0), Round(1, [FIRST], 0, 0, [1, 2, 3, 4])
    assert Job(**{**FIELDS, "first_round": whole, "inherited": Inherited(others=["batch_1"])}).all_requests is whole
    job = Job(**{**FIELDS, "first_round": rest, "inherited": Inherited(rows=1, parts=[FIRST, LAST])})
    assert [list(job.all_requests.indexes_of(part)) for part in job.all_requests.parts] == [[0, 1, 2, 3], [4]]
    deduplicated = Job(**{**FIELDS, "first_round": rest, "inherited": Inherited(parts=[FIRST, LAST])})
    assert deduplicated.all_requests.parts == [FIRST, LAST]


def test_jobs_without_reuse_keep_their_id() -> None:
    """The id is a hash of the encoded job, and published results of an earlier version name it."""
    assert "reuse" not in msgspec.json.decode(msgspec.json.encode(Job(**FIELDS)))
    job = Job(**FIELDS, reuse=Reuse(rows=2, duplicates=1))
    assert (job.reused, job.duplicates, job.has_reused_rows) == (2, 1, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
        ({"b", "a", "c"}, {"c", "b", "a"}),
        ((1, 2), [1, 2]),
        (datetime.date(2026, 1, 2), datetime.date(2026, 1, 2)),
        (1 + 2j, 1 + 2j),
    ],
)
def test_equal_values_have_the_same_fingerprint(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (None, ""), ([1, 2], [2, 1]), ({}, []), (1 + 2j, 2 + 1j)])
def test_different_values_have_different_fingerprints(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert len(fingerprint(one)) == 16
