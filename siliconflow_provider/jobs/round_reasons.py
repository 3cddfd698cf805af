"""Count the reasons why requests of a round have no good answer, and find the one that a further round would repeat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from msgspec import structs

from siliconflow_provider.api.limits import shortened
from siliconflow_provider.api.remedies import remedy_for_json_mode
from siliconflow_provider.api.service_texts import cut, word
from siliconflow_provider.jobs.job import Reason, Round
from siliconflow_provider.outputs import (
    INVALID_OUTPUT,
    LASTING_CODES,
    REFUSED,
    TRUNCATED,
    ResultRow,
    ResultStore,
    correctable_text,
    is_refusal,
)
from siliconflow_provider.wording import counted

# With fewer requests of one reason, a further round costs little, and may help.
FEWEST_REPEATED = 10
SHOWN_REASONS = 3
LONGEST_EXAMPLE = 200
# Reasons above this number are counted together.
DISTINCT_REASONS = 1_000
LONGEST_REASON = 300
_OTHER = ("other", None, None, "")
# Status, code, HTTP status, and the message without what differs by row.
_Key = tuple[str, str | None, int | None, str]
_QUOTED = re.compile(r"""(?<!\w)(["'`])(?:(?!\1).)*\1(?!\w)|“[^”]*”|‘[^’]*’|「[^」]*」|«[^»]*»""")
_ADDRESS = re.compile(r"https?://\S+")
# Numbers, and ids with a digit.
_NUMBER = re.compile(r"[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]*")
_STATUS = re.compile(r"[45]\d\d")


@dataclass(frozen=True)
class RepeatedFailure:
    """Most requests of a round have no good answer, for one reason that a further round would repeat.

    :param requests: the number of requests of the round
    :param others: those that have no good answer for other reasons
    :param custom_id: a request with this reason
    :param answer: the beginning of its answer, without secrets; empty if it has none
    """

    reason: Reason
    round_number: int
    requests: int
    others: int
    custom_id: str
    answer: str

    def describe(self) -> str:
        """Return sentences that say what happened, show an example, and say what to change."""
        reason = self.reason
        answer = f", which was answered {self.answer!r}" if self.answer else ""
        others = f"{counted(self.others, 'other request')} without a good answer"
        not_resent = f"; {others} {'was' if self.others == 1 else 'were'} not resent either" if self.others else ""
        return (
            f"{_cause(reason).rstrip('.')}.\nFor this reason {reason.count:,} of {counted(self.requests, 'request')} "
            f"of round {self.round_number} {'are invalid' if reason.status == 'invalid' else 'failed'}, such as "
            f"{word(self.custom_id)}{answer}.\nNo further round was sent, since it would repeat this{not_resent}.\n"
            f"{_remedy(reason)}"
        )


def count_reasons(results: ResultStore, indexes: Iterable[int], round_number: int | None = None) -> list[Reason]:
    """Return the reasons why these requests have no good answer, the most frequent first.

    Messages that differ only in numbers, ids and quoted values are one reason; it has the message of the first request.

    :param indexes: positions of requests
    :param round_number: ignore rows of other rounds
    """
    found: dict[_Key, Reason] = {}
    for index in indexes:
        if results.is_good(index):
            continue
        row = results.row(index)
        if round_number is not None and row.round != round_number:
            continue
        key = _key_of(row)
        if key not in found and len(found) >= DISTINCT_REASONS:
            key = _OTHER
        known = found.get(key) or _reason_of(key, row, index)
        found[key] = structs.replace(known, count=known.count + 1)
    return sorted(found.values(), key=lambda reason: -reason.count)


def describe_reasons(reasons: Sequence[Reason]) -> str:
    """Return the most frequent reasons for a log, such as `30 invalid (age: Field required), 7 failed (503 busy)`."""
    shown = [f"{each.count:,} {each.status} ({shortened(_cause(each))})" for each in reasons[:SHOWN_REASONS]]
    others = sum(reason.count for reason in reasons[SHOWN_REASONS:])
    return ", ".join([*shown, *([f"{others:,} for other reasons"] if others else [])])


def find_repeated_failure(
    results: ResultStore, round_: Round, without_secrets: Callable[[str], str]
) -> RepeatedFailure | None:
    """Return the reason for which more than half of a round's requests have no good answer, or None.

    Only reasons of the requests themselves count, and only those of at least ten requests.

    :param without_secrets: removes the key and the queries of URLs from a text
    """
    requests = sum(part.lines for part in round_.parts)
    indexes = chain.from_iterable(map(round_.indexes_of, round_.parts))
    reasons = count_reasons(results, indexes, round_.number)
    reason = next(iter(reasons), None)
    if reason is None or reason.count < FEWEST_REPEATED or 2 * reason.count <= requests or not _is_lasting(reason):
        return None
    row = results.row(reason.first_index)
    answer = cut(without_secrets(correctable_text(row) or str(row.content or "")), LONGEST_EXAMPLE)
    others = sum(other.count for other in reasons[1:])
    return RepeatedFailure(reason, round_.number, requests, others, row.custom_id, answer)


def _key_of(row: ResultRow) -> _Key:
    if row.error is None:
        return row.status, None, None, ""
    return row.status, row.error.code, row.error.status, _without_values(row.error.code, row.error.message)


def _reason_of(key: _Key, row: ResultRow, index: int) -> Reason:
    status, code, http_status, _ = key
    if key == _OTHER or row.error is None:
        return Reason(status, None, "no common reason", 0, index)
    message = cut(_first_detail(code, row.error.message), LONGEST_REASON)
    return Reason(status, code, message, 0, index, http_status)


def _first_detail(code: str | None, message: str) -> str:
    """Return the first of the details of a message. The words of a refusal are the model's own."""
    return message.partition(": ")[0] if code == REFUSED else message.partition("; ")[0]


def _without_values(code: str | None, message: str) -> str:
    """Return a message without what differs by row: addresses, quoted values, numbers and ids."""
    text = _ADDRESS.sub("#", _first_detail(code, message))
    return _NUMBER.sub("#", _QUOTED.sub("#", text))[:LONGEST_REASON]


def _cause(reason: Reason) -> str:
    code = "" if reason.code is None or reason.status == "invalid" else f"{reason.code} "
    return f"{code}{reason.message}"


def _is_lasting(reason: Reason) -> bool:
    """Return True if the request itself is certainly the reason. Any other failure may be the service's own."""
    if reason.status != "failed":
        return reason.status == "invalid"
    code, status = reason.code or "", reason.http_status
    if status is None and _STATUS.fullmatch(code):
        status = int(code)
    return code in LASTING_CODES if status is None else is_refusal(status)


def _remedy(reason: Reason) -> str:
    json_mode = remedy_for_json_mode(f"{reason.code} {reason.message}")
    if json_mode is not None:
        return json_mode
    remedies = {
        INVALID_OUTPUT: "Compare this answer with output_type: change output_type, or describe the form in prompt",
        REFUSED: "Change what the prompt asks for, or the model",
        TRUNCATED: "Raise max_tokens in request_params",
    }
    return remedies.get(reason.code or "", "Correct what the error names, such as request_params or the model")
