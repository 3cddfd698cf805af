from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from siliconflow_provider.inputs.parts import Part
from siliconflow_provider.jobs import round_reasons
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.round_reasons import (
    RepeatedFailure,
    count_reasons,
    describe_reasons,
    find_repeated_failure,
)
from siliconflow_provider.outputs.answers import AnswerError, ResultRow
from siliconflow_provider.outputs.result_store import ResultStore

Errors = tuple[int, str, str | None, str]
Store = Callable[..., ResultStore]
INVALID = (12, "invalid", "invalid_output", "age: Field required")


@pytest.fixture
def store() -> Iterator[Store]:
    with tempfile.TemporaryFile() as file:

        def make(*rows: ResultRow) -> ResultStore:
            results = ResultStore(len(rows), file)
            for index, row in enumerate(rows):
                results.set_outcome(index, row)
            return results

        yield make


def rows(*errors: Errors, http_status: int | None = None, **fields: Any) -> list[ResultRow]:
    found = [
        AnswerError(code, message.replace("%", str(1000 + number)), http_status)
        for count, _, code, message in errors
        for number in range(count)
    ]
    statuses = [status for count, status, _, _ in errors for _ in range(count)]
    return [
        ResultRow(custom_id=f"r-{index}", status=status, error=error, **{"round": 1, **fields})
        for index, (status, error) in enumerate(zip(statuses, found, strict=True))
    ]


def good(count: int) -> list[ResultRow]:
    return [ResultRow(custom_id="good", status="succeeded", round=1) for _ in range(count)]


def repeated(results: ResultStore, number: int = 1, **options: Any) -> RepeatedFailure | None:
    round_ = Round(number, [Part(0, len(results), 0, 0, "")], 0, 0, **options)
    return find_repeated_failure(results, round_, lambda text: text.replace("sk-1", "***"))


class TestDescription:
    def test_the_most_frequent_reasons_come_first(self, store: Store) -> None:
        results = store(*good(2), *rows((7, "failed", "503", "busy"), (30, "invalid", "invalid_output", INVALID[3])))
        reasons = count_reasons(results, range(len(results)))
        assert describe_reasons(reasons) == "30 invalid (age: Field required), 7 failed (503 busy)"
        assert reasons[0].first_index == 9

    def test_the_line_stays_short(self, store: Store) -> None:
        errors = [(9 - number, "failed", "x" * 30, f"{chr(97 + number)}{'y' * 90}") for number in range(5)]
        shown = describe_reasons(count_reasons(store(*rows(*errors)), range(35)))
        assert shown.startswith(f"9 failed ({'x' * 30} ayyyyy...), 8 failed (")
        assert shown.endswith("), 11 for other reasons")

    @pytest.mark.parametrize(
        "message",
        [
            "request batch_req_% not found",
            "at position %, line 1% of 20,%",
            "items.%.name: Input should be a valid string",
            "name 'a% b' is unknown",
            'name "a% b" is unknown',
            "see https://host.example/a/%",
            "age: Field required; name.%: Field required, and more",
        ],
    )
    def test_what_differs_by_row_is_one_reason(self, store: Store, message: str) -> None:
        (reason,) = count_reasons(store(*rows((4, "failed", "x", message))), range(4))
        assert reason.message == message.partition("; ")[0].replace("%", "1000")

    def test_apostrophes_are_no_quotes(self, store: Store) -> None:
        errors: list[Errors] = [(1, "failed", "x", f"can't {verb}, doesn't work") for verb in ("read", "write")]
        assert len(count_reasons(store(*rows(*errors)), range(2))) == 2

    def test_a_refusals_words_do_not_count(self, store: Store) -> None:
        errors: list[Errors] = [(1, "invalid", "refusal", f"the model refused to answer: {word}") for word in "ab"]
        (reason,) = count_reasons(store(*rows(*errors)), range(2))
        assert reason.message == "the model refused to answer"

    def test_codes_and_statuses_are_different_reasons(self, store: Store) -> None:
        results = store(*rows((1, "failed", "a", "m"), (1, "failed", "b", "m"), (1, "invalid", "a", "m")))
        assert len(count_reasons(results, range(3))) == 3

    def test_many_reasons_are_counted_together(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(round_reasons, "DISTINCT_REASONS", 2)
        results = store(*rows(*((12, "failed", "x", letter) for letter in "abcd")))
        reasons = count_reasons(results, range(48))
        assert describe_reasons(reasons) == "24 other (no common reason), 12 failed (x a), 12 failed (x b)"


class TestRepeatedFailure:
    @pytest.mark.parametrize(
        ("count", "others", "stops"), [(10, 9, True), (10, 10, False), (9, 0, False), (30, 29, True)]
    )
    def test_more_than_half_and_ten(self, store: Store, count: int, others: int, stops: bool) -> None:
        found = repeated(store(*rows((count, *INVALID[1:])), *good(others)))
        assert (found is not None) == stops

    @pytest.mark.parametrize(
        ("status", "code", "message", "http_status", "stops"),
        [
            ("invalid", "truncated", "the answer was cut at max_tokens", None, True),
            ("failed", "400", "bad", 400, True),
            ("failed", "x", "bad", 422, True),
            ("failed", "404", "bad", None, True),
            ("failed", "20012", "bad", None, True),
            ("failed", "invalid_request_error", "bad", None, True),
            # Only what is certainly the request's own stops a job.
            ("failed", None, "Model is loading", None, False),
            ("failed", None, "upstream prematurely closed", None, False),
            ("failed", "engine_error", "generation aborted", None, False),
            ("failed", "internal", "Internal failure", None, False),
            ("failed", "unknown_error", "unknown error", None, False),
            ("failed", "no_choices", "the answer has no choices", None, False),
            ("failed", "unreadable_answer", "JSON is malformed", None, False),
            ("failed", "batch_failed", "model m does not exist", None, False),
            ("failed", "408", "x", None, False),
            ("failed", "429", "slow down", 429, False),
            ("failed", "503", "x", None, False),
            ("failed", "50505", "x", None, False),
            ("failed", "x", "x", 504, False),
            ("failed", "server_error", "x", None, False),
            ("failed", None, "Model service overloaded. Please try again later.", None, False),
            ("failed", None, "the request timed out", None, False),
            ("expired", "batch_expired", "too late", None, False),
            ("cancelled", "batch_cancelled", "x", None, False),
            ("missing", "missing", "x", None, False),
        ],
    )
    def test_only_reasons_of_the_job_count(
        self, store: Store, status: str, code: str | None, message: str, http_status: int | None, stops: bool
    ) -> None:
        results = store(*rows((20, status, code, message), http_status=http_status))
        assert (repeated(results) is not None) == stops

    def test_rows_of_earlier_rounds_do_not_count(self, store: Store) -> None:
        """Their requests were resent, and then failed for a reason of the service."""
        results = store(*rows(INVALID))
        assert repeated(results, number=2) is None
        assert repeated(results, number=1) is not None

    def test_only_the_rounds_requests_count(self, store: Store) -> None:
        results = store(*good(20), *rows(INVALID, round=2))
        later = Round(2, [Part(0, 12, 0, 0, "")], 0, 0, list(range(20, 32)))
        found = find_repeated_failure(results, later, str)
        assert found is not None
        assert (found.reason.count, found.requests, found.custom_id) == (12, 12, "r-0")

    def test_the_message_says_what_to_change(self, store: Store) -> None:
        found = repeated(store(*rows(INVALID, content="<think>secret</think>{'key': 'sk-1'}\n" + "x" * 900)))
        assert found is not None
        text = found.describe()
        assert text.startswith(
            "age: Field required.\nFor this reason 12 of 12 requests of round 1 are invalid, such as r-0, which was "
            "answered \"{'key': '***'}\\nxxx"
        )
        assert 'more characters)".\nNo further round was sent, since it would repeat this.\nCompare this answer' in text

    @pytest.mark.parametrize(
        ("code", "message", "remedy"),
        [
            ("20024", "Json mode is not supported for this model.", 'request_params={"response_format": None}'),
            ("truncated", "the answer was cut", "Raise max_tokens"),
            ("refusal", "the model refused to answer: no", "Change what the prompt asks for"),
            ("20012", "no such parameter", "Correct what the error names"),
        ],
    )
    def test_each_reason_has_its_remedy(self, store: Store, code: str, message: str, remedy: str) -> None:
        found = repeated(store(*rows((10, "invalid" if code == "refusal" else "failed", code, message))))
        assert found is not None
        assert remedy in found.describe()
        assert ", such as r-0.\nNo further round was sent, since it would repeat this.\n" in found.describe()

    @pytest.mark.parametrize(("count", "said"), [(9, "9 other requests {} were"), (1, "1 other request {} was")])
    def test_others_are_said_not_to_be_resent(self, store: Store, count: int, said: str) -> None:
        found = repeated(store(*rows(INVALID, (count, "failed", "503", "busy")), *good(2)))
        assert found is not None
        assert f"would repeat this; {said.format('without a good answer')} not resent either.\n" in found.describe()
