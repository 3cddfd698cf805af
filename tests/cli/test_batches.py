"""`batches`."""

from __future__ import annotations

from typing import Any

import pytest

from siliconflow_provider.api.models import RUNNING_STATUSES, TERMINAL_STATUSES
from siliconflow_provider.cli.commands import COMMANDS
from tests.listing_service import CREATED

HOUR = 3_600


@pytest.fixture
def account_of_four(service: Any, listing_settings: None, held_time: Any) -> Any:
    """Four batches: the newest runs, and one of each end."""
    tasks = ("nightly/create/manual__2/-1", "nightly/infer/manual__1/3", "weekly/create/manual__1/-1", None)
    statuses = ("in_progress", "completed", "expired", "cancelled")
    for number, (status, task) in enumerate(zip(statuses, tasks, strict=True)):
        metadata = {"note": f"Note {number}"} | ({"airflow_task": task} if task else {})
        counts = {"total": 5_000, "completed": 100 * number, "failed": number}
        service.has(
            id=f"batch_{number}",
            status=status,
            created_at=CREATED - number * 24 * HOUR,
            metadata=metadata,
            request_counts=counts,
        )
    return service


def ids(printed: Any) -> list[str]:
    return [line.split()[0] for line in printed.out.splitlines()[1:]]


def test_a_table_has_the_newest_first(run: Any, account_of_four: Any) -> None:
    assert run("batches").out.splitlines() == [
        "id       status       done       created (UTC)        task",
        "batch_0  in_progress  0/5,000    2027-01-15 08:00:00  nightly/create/manual__2",
        "batch_1  completed    101/5,000  2027-01-14 08:00:00  nightly/infer/manual__1/3",
        "batch_2  expired      202/5,000  2027-01-13 08:00:00  weekly/create/manual__1",
        "batch_3  cancelled    303/5,000  2027-01-12 08:00:00",
    ]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--status", "completed"], [1]),
        (["--status", "completed", "--running"], [0, 1]),
        (["--failed"], [2, 3]),
        (["--dag", "nightly"], [0, 1]),
        (["--dag", "night"], []),
        (["--text", "note 3"], [3]),
        (["--text", "CREATE/manual__1"], [2]),
        (["--since", "2027-01-13T08:00"], [0, 1, 2]),
        (["--since", "2027-01-13T08:00+01:00"], [0, 1, 2]),
        (["--since", "25h"], [0, 1]),
        (["--limit", "1"], [0]),
    ],
)
def test_filters_choose_batches(run: Any, account_of_four: Any, filters: list[str], found: list[int]) -> None:
    assert ids(run("batches", *filters)) == [f"batch_{number}" for number in found]


def test_a_limit_says_that_more_match(run: Any, account_of_four: Any) -> None:
    more = "shows the newest 1 batch, and more match: give a larger --limit\n"
    assert run("batches", "--failed", "--limit", "1").err == more
    assert run("batches", "--failed", "--limit", "2").err == ""


def test_no_match_is_no_failure(run: Any, account_of_four: Any) -> None:
    assert run("batches", "--dag", "other") == (0, "", "no batch matches\n")
    assert run("batches", "--dag", "other", "--json").json == []


def test_an_unknown_status_is_a_warning(run: Any, account_of_four: Any) -> None:
    known = ", ".join((*RUNNING_STATUSES, *TERMINAL_STATUSES))
    warning = f"no batch has the status done; known are {known}\n"
    assert run("batches", "--status", "done", "--status", "expired")[2] == warning
    assert run("batches", "--status", "validating") == (0, "", "no batch matches\n")
    (status,) = [argument for argument in COMMANDS[1].arguments if "--status" in argument.flags]
    assert f"with this status: {known}".replace(", cancelled", " or cancelled") in status.settings["help"]


def test_batches_without_listed_metadata_are_asked_for(run: Any, account_of_four: Any) -> None:
    account_of_four.hidden = ("metadata",)
    assert ids(run("batches", "--dag", "weekly")) == ["batch_2"]
    account_of_four.requests.clear()
    assert ids(run("batches", "--status", "expired")) == ["batch_2"]
    assert account_of_four.requests == ["GET /batches", "GET /batches/batch_2"]


def test_batches_without_listed_times_are_asked_for(run: Any, account_of_four: Any) -> None:
    account_of_four.hidden = ("created_at",)
    assert ids(run("batches", "--since", "2027-01-14")) == ["batch_0", "batch_1"]
    assert ids(run("batches"))[0] == "batch_0"


def test_an_account_without_batches_is_empty(run: Any, service: Any, listing_settings: None) -> None:
    assert run("batches").err == "no batch matches\n"
