"""How a row, a prompt or a request of the user becomes the request line that is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from siliconflow_provider.jobs.request_lines import RequestLine, check_request, read_request

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
encode = msgspec.json.Encoder(enc_hook=str).encode
_lines_decoder = msgspec.json.Decoder(RequestLine)
_MARK = "\0the text\0"


class UnfitItemError(ValueError):
    """An item that cannot become a request."""


@dataclass(frozen=True)
class Request:
    """A request line, and the row that it was made of."""

    custom_id: str
    line: bytes
    model: str | None
    row: bytes | None = None


@dataclass(frozen=True)
class Recipe:
    """What is filled in where an item lacks it.

    :param prompt: makes a request of a row: `{column}` is replaced, every other brace stands
    :param id_column: of a row, for its `custom_id`; without it, and for other items, `request-000001`, ...
    :param system_prompt: for requests without a system message
    :param instruction: for every request, at the end of its system message
    :param request_params: fields of the body, such as `max_tokens`
    :param model: for requests that name none
    """

    prompt: str | None = None
    id_column: str | None = None
    system_prompt: str | None = None
    instruction: str | None = None
    request_params: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None

    def request(self, item: Any, index: int) -> Request:
        """Return the request of an item: a row, a prompt, a list of messages, or a request line.

        :param item: a text, list or mapping, or a line of JSON as bytes
        :param index: the item's position, from 0
        :raises UnfitItemError: when it cannot become one that the service takes
        """
        try:
            if not isinstance(item, bytes):
                return self._made(item, None, index)
            line = item.strip()
            if self._fills_nothing:
                return self._checked(line + b"\n")
            return self._made(_decoded(line), line, index)
        except UnfitItemError:
            raise
        except (ValueError, RecursionError, TypeError) as error:
            raise UnfitItemError(str(error)) from None

    def unchanged(self, items: Sequence[Any]) -> list[RequestLine] | None:
        """Return what is in items that are sent as they are, or None: then each is to be looked at by itself.

        Many lines are decoded at once, and the checks of a request are made once for all that look alike.
        """
        if not self._fills_nothing:
            return None
        try:
            block = b"".join(items)
            # Where each line begins and ends like this, as many values as there are lines are one each.
            if not all(each[:1] == b"{" and each[-2:] == b"}\n" for each in items):
                return None
            # The decoder does not look into texts that it has no field for.
            if not block.isascii():
                block.decode()
            requests = _lines_decoder.decode_lines(block)
        except (TypeError, ValueError, RecursionError):
            return None
        looks = {
            (each.method, each.url, each.body.thinking_budget, *[one.role for one in each.body.messages]): each
            for each in requests
        }
        is_fit = len(requests) == len(items) and all(each.custom_id for each in requests)
        return requests if is_fit and all(check_request(each) is None for each in looks.values()) else None

    @cached_property
    def _fills_nothing(self) -> bool:
        return not (self.prompt or self.system_prompt or self.instruction or self.request_params or self.model)

    def _made(self, item: Any, encoded: bytes | None, index: int) -> Request:
        generated = f"request-{index + 1:06d}"
        if isinstance(item, str):
            return self._of_messages(generated, [{"role": "user", "content": item}])
        if isinstance(item, Mapping):
            if self.prompt is not None:
                return self._of_row(item, encoded or encode(item), generated)
            if not isinstance(item.get("body"), Mapping):
                raise UnfitItemError(
                    f"it is neither a request line (custom_id, body) nor can it become one: give prompt=, which names "
                    f"columns of the row ({', '.join(map(str, item)) or 'it has none'})"
                )
            return self._filled({"custom_id": generated, **item})
        if isinstance(item, Sequence) and not isinstance(item, bytes):
            return self._of_messages(generated, list(item))
        raise UnfitItemError(f"it is {type(item).__name__}: give a text, a list of messages, a row or a request line")

    def _of_messages(self, custom_id: str, messages: list[Any]) -> Request:
        if self.prompt is not None:
            raise UnfitItemError("prompt= names columns of a row, and this is none: leave prompt= out")
        return self._filled({"custom_id": custom_id, "body": {"messages": messages}})

    def _of_row(self, row: Mapping[str, Any], encoded: bytes, generated: str) -> Request:
        custom_id = generated if self.id_column is None else _text(row, self.id_column)
        if not custom_id:
            raise UnfitItemError("custom_id is empty")
        self.columns_of(row)
        content = _PLACEHOLDER.sub(lambda each: self._value(row, each), self.prompt or "")
        start, middle, end, model = self._frame
        line = b"".join((start, encode(custom_id), middle, encode(content), end))
        return Request(custom_id, line, model, encoded)

    @cached_property
    def _frame(self) -> tuple[bytes, bytes, bytes, str | None]:
        """What is the same in the lines of all rows: before the id, before the text and after it; and the model."""
        request = self._filled({"custom_id": _MARK, "body": {"messages": [{"role": "user", "content": _MARK}]}})
        start, middle, end = request.line.split(encode(_MARK))
        return start, middle, end, request.model

    def _value(self, row: Mapping[str, Any], placeholder: re.Match[str]) -> str:
        name = placeholder[1]
        if name in self.columns_of(row):
            return _text(row, name)
        if name in row:
            raise UnfitItemError(
                f"column {name!r}, which prompt names, is not in the first row: give all rows the same"
            )
        return placeholder[0]

    def columns_of(self, row: Mapping[str, Any]) -> frozenset[str]:
        """Return what the prompt names of a job's columns, which are those of its first row."""
        columns = self.__dict__.get("_columns")
        if columns is None:
            named = _PLACEHOLDER.findall(self.prompt or "")
            columns = frozenset(named) & frozenset(row)
            if not columns:
                shown = ", ".join(f"{{{each}}}" for each in named) or "none"
                has = ", ".join(map(repr, row)) or "nothing"
                raise UnfitItemError(f"prompt names no column of the row: it has {shown}, the row has {has}")
            self.__dict__["_columns"] = columns
        return columns

    def _filled(self, line: dict[str, Any]) -> Request:
        body = dict(line["body"])
        if isinstance(body.get("messages"), list | tuple):
            body["messages"] = self._with_system_message(list(body["messages"]))
        if self.model is not None and body.get("model") is None:
            body["model"] = self.model
        body = {**self.request_params, **body}
        filled = {"custom_id": line["custom_id"], "method": "POST", "url": "/v1/chat/completions", **line, "body": body}
        return self._checked(encode(filled) + b"\n")

    def _with_system_message(self, messages: list[Any]) -> list[Any]:
        given = next((each for each in messages if isinstance(each, Mapping) and each.get("role") == "system"), None)
        if given is None:
            texts = [each for each in (self.system_prompt, self.instruction) if each]
            return [{"role": "system", "content": "\n\n".join(texts)}, *messages] if texts else messages
        if self.instruction:
            said = given.get("content")
            instruction = [{"type": "text", "text": self.instruction}]
            content = [*said, *instruction] if isinstance(said, list) else f"{said}\n\n{self.instruction}"
            longer = {**given, "content": content}
            return [longer if each is given else each for each in messages]
        return messages

    def _checked(self, line: bytes) -> Request:
        request: RequestLine = read_request(line)
        reason = check_request(request) or (None if request.custom_id else "custom_id is empty")
        if reason is not None:
            raise UnfitItemError(reason)
        return Request(request.custom_id, line, request.body.model)


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnfitItemError(f"not JSON in UTF-8: {error}") from None


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        has = "is null" if column in row else f"is missing, the row has {', '.join(map(repr, row)) or 'nothing'}"
        raise UnfitItemError(f"column {column!r} {has}")
    plain = msgspec.to_builtins(value, enc_hook=str)
    return plain if isinstance(plain, str) else encode(plain).decode()
