"""Planned answers, and the requests that they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from siliconflow_provider.emulator.errors import ControlError
from siliconflow_provider.emulator.messages import user_texts
from siliconflow_provider.emulator.rules import read


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The answer to the request with this `custom_id`, or to those with this text in a user message, or to all.

    `content`: a text; any other value is written as JSON, except for null. `usage` replaces the counts that it has;
    null leaves no usage. What is not given is as without a plan.
    """

    custom_id: str | None = None
    contains: str | None = None
    content: Any = msgspec.UNSET
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: tuple[Any, ...] = ()
    finish_reason: str | None = None
    usage: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.custom_id is not None and self.contains is not None:
            raise ValueError("choose requests by custom_id or contains, not by both")
        if self.content is not msgspec.UNSET:
            msgspec.json.encode(self.content)

    @property
    def text(self) -> str | None:
        """The text of the content; None for null."""
        if self.content is None or isinstance(self.content, str):
            return self.content
        return msgspec.json.encode(self.content).decode()

    @property
    def message(self) -> dict[str, Any]:
        """The further fields of the message."""
        fields = {"refusal": self.refusal, "tool_calls": [*self.tool_calls] or None}
        return {name: value for name, value in fields.items() if value is not None}

    def usage_of(self, prompt_tokens: int, completion_tokens: int) -> dict[str, Any] | None:
        """Return the usage, with a total that adds up unless it is planned."""
        if self.usage is None:
            return None
        planned = {} if isinstance(self.usage, msgspec.UnsetType) else self.usage
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens} | planned
        summands = [counts["prompt_tokens"], counts["completion_tokens"]]
        total = sum(each for each in summands if isinstance(each, int))
        return counts if "total_tokens" in counts else counts | {"total_tokens": total}


class AnswerRules:
    """Finds the planned answers of requests. Rules with a custom_id come first, then the others in their order."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._by_id = {answer.custom_id: answer for answer in reversed(answers) if answer.custom_id is not None}
        self._others = [answer for answer in answers if answer.custom_id is None]

    def answer_to(self, request: dict[str, Any]) -> Answer | None:
        """Return the planned answer to a request line, or None."""
        found = self._by_id.get(request["custom_id"])
        if found is not None or not self._others:
            return found
        texts = user_texts(request.get("body"))
        return next((rule for rule in self._others if any((rule.contains or "") in text for text in texts)), None)


def read_answers(given: Any) -> tuple[Answer, ...]:
    """Return answers in one of their forms: a text, a mapping from custom_ids or texts of prompts, or a list of rules.

    :raises ControlError: if a field is invalid; the message names it and the allowed values
    """
    if isinstance(given, str):
        return (Answer(content=given),)
    if isinstance(given, Mapping):
        rules = [(key, read_answer(f"plan: answers: {key!r}", value)) for key, value in given.items()]
        by_id = [msgspec.structs.replace(answer, custom_id=key, contains=None) for key, answer in rules]
        return (*by_id, *(msgspec.structs.replace(answer, custom_id=None, contains=key) for key, answer in rules))
    if isinstance(given, Sequence):
        return tuple(read_answer(f"plan: answers: {number}", rule) for number, rule in enumerate(given, start=1))
    raise ControlError(f"plan: answers: must be a text, an object, a list or, in Python, a function, not {given!r}")


def read_answer(what: str, given: Any) -> Answer:
    """Return an answer that is given as a text or as its fields."""
    if isinstance(given, Answer):
        return given
    if isinstance(given, str):
        return Answer(content=given)
    if not isinstance(given, Mapping):
        raise ControlError(f"{what}: must be a text or an object such as {{'content': ...}}, not {given!r}")
    return read(what, given, Answer)
