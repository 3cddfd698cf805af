"""Request files: read, checked line by line against what the service accepts."""

from __future__ import annotations

import hashlib
from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO

import msgspec

from siliconflow_provider import jsonl
from siliconflow_provider.api.limits import ENDPOINTS, MAXIMUM_FILE_BYTES, MAXIMUM_FILE_LINES, shortened
from siliconflow_provider.api.service_texts import cut, printable
from siliconflow_provider.jsonl import LongLine

SHOWN_PROBLEMS = 10
LONGEST_PROBLEM = 1_000
ROLES = ("system", "user", "assistant")
THINKING_BUDGET = (128, 32_768)
MAXIMUM_CUSTOM_ID = 64
TOO_LONG = f"it has {jsonl.TOO_LONG}: shorten it, or refer to images and videos by their URLs"


class InvalidRequestFileError(ValueError):
    """A request file that the service would refuse; the first bad lines are named with number and reason."""


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Body(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    thinking_budget: int | None = None


class RequestLine(msgspec.Struct):
    """What is checked of a request."""

    custom_id: str
    body: _Body
    method: str = "POST"
    url: str = ENDPOINTS[0]


@dataclass(frozen=True)
class LineProblem:
    """What is wrong with one line, counted from 1."""

    number: int
    reason: str


@dataclass
class RequestFileReport:
    """What the check of a request file found.

    :param sha256: hex digest of the file's bytes
    :param problems: the first ten bad lines
    :param problem_count: how many lines are bad
    :param models: the models that lines name, with the first line of each; None stands for no model
    """

    sha256: str = ""
    lines: int = 0
    bytes: int = 0
    problems: list[LineProblem] = field(default_factory=list)
    problem_count: int = 0
    models: dict[str | None, int] = field(default_factory=dict)

    def raise_for_problems(self, name: str) -> None:
        """Raise InvalidRequestFileError when the service would not take the file.

        :param name: the file in the message
        """
        if self.lines == 0:
            raise InvalidRequestFileError(f"{name} is empty: write one request a line to it")
        problems: list[str] = []
        if self.lines > MAXIMUM_FILE_LINES:
            problems.append(f"it has {self.lines:,} lines, the service takes {MAXIMUM_FILE_LINES:,}")
        if self.bytes > MAXIMUM_FILE_BYTES:
            problems.append(f"it has {self.bytes:,} bytes, the service takes {MAXIMUM_FILE_BYTES:,}")
        problems += [cut(printable(f"line {each.number:,}: {each.reason}"), LONGEST_PROBLEM) for each in self.problems]
        if self.problem_count > len(self.problems):
            problems.append(f"and {self.problem_count - len(self.problems):,} more bad lines")
        if problems:
            bad = f"{self.problem_count:,} of {self.lines:,} lines are bad; mend them"
            what = bad if self.problem_count else "it is too large; cut it"
            raise InvalidRequestFileError(
                f"{name} was not uploaded, {what} and run the task again:\n  " + "\n  ".join(problems)
            )


def check_request_file(lines: Iterable[bytes], copy: IO[bytes]) -> RequestFileReport:
    """Check a request file in one pass, while its bytes go to `copy`.

    What is copied is what was checked, whatever happens to the source meanwhile.

    :param lines: the file's lines with their ends, or a `LongLine`
    """
    report = RequestFileReport()
    digest = hashlib.sha256()
    first_lines: dict[str, int] = {}
    for line in lines:
        copy.write(line)
        digest.update(line)
        report.lines += 1
        report.bytes += len(line)
        reason = _check_line(line, report, first_lines)
        if reason is not None:
            report.problem_count += 1
            if len(report.problems) < SHOWN_PROBLEMS:
                report.problems.append(LineProblem(report.lines, reason))
    report.sha256 = digest.hexdigest()
    return report


_decoder = msgspec.json.Decoder(RequestLine)
_any_decoder = msgspec.json.Decoder()


def _check_line(line: bytes, report: RequestFileReport, first_lines: dict[str, int]) -> str | None:
    """Return what is wrong with the line, and note its id and model."""
    if isinstance(line, LongLine):
        return TOO_LONG
    if not line.strip():
        return "the line is blank"
    try:
        request = read_request(line)
    except ValueError as error:
        return str(error)
    report.models.setdefault(request.body.model or None, report.lines)
    return check_request(request) or _check_custom_id(request.custom_id, report.lines, first_lines)


def read_request(line: bytes) -> RequestLine:
    """Read a request line.

    :raises ValueError: when it is none
    """
    if line.startswith(BOM_UTF8):
        raise ValueError("it begins with a byte order mark: save the file as UTF-8 without one")
    try:
        # The other decoder does not look into texts and numbers that it has no field for.
        line.decode()
        request = _decoder.decode(line)
        _any_decoder.decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply to be read") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from None
    return request


def custom_id_fault(custom_id: str) -> str | None:
    """Return what is wrong with a custom id by itself, or None.

    An answer is found by its id, so an id that the service may give back changed is none.
    """
    if not custom_id:
        return "custom_id is empty"
    if custom_id != custom_id.strip():
        return f"custom_id {shortened(repr(custom_id))} begins or ends with a blank: remove it"
    if len(custom_id) > MAXIMUM_CUSTOM_ID:
        return (
            f"custom_id {shortened(repr(custom_id))} has {len(custom_id):,} characters: give at most "
            f"{MAXIMUM_CUSTOM_ID}, such as a hash of it"
        )
    return None


def _check_custom_id(custom_id: str, number: int, first_lines: dict[str, int]) -> str | None:
    fault = custom_id_fault(custom_id)
    if fault is not None:
        return fault
    first = first_lines.get(custom_id)
    if first is not None:
        return f"custom_id {shortened(repr(custom_id))} is already on line {first:,}: it must be unique in the file"
    # A file with more lines is refused as a whole, so its further ids need no memory.
    if number <= MAXIMUM_FILE_LINES:
        first_lines[custom_id] = number
    return None


def check_request(request: RequestLine) -> str | None:
    """Return what the service would refuse in a request, or None."""
    messages, budget = request.body.messages, request.body.thinking_budget
    if request.method != "POST":
        return f"method is {shortened(repr(request.method))}, the service takes 'POST'"
    if request.url not in ENDPOINTS:
        return f"url is {shortened(repr(request.url))}, the service takes {ENDPOINTS[0]!r}"
    if not messages:
        return "body.messages is empty"
    unknown = next((each.role for each in messages if each.role not in ROLES), None)
    if unknown is not None:
        return f"body.messages has the role {shortened(repr(unknown))}, the service takes {', '.join(ROLES)}"
    if messages[-1].role != "user":
        return f"the last of body.messages is from {messages[-1].role!r}, the service takes 'user'"
    if chr(memoryview(messages[-1].content)[0]) not in '"[':
        return "the last of body.messages has a content that is neither text nor a list of parts"
    if budget is not None and not THINKING_BUDGET[0] <= budget <= THINKING_BUDGET[1]:
        return f"body.thinking_budget is {shortened(f'{budget:,}')}, the service takes 128 to 32,768"
    return None
