"""How a row, a prompt or a request of the user becomes the request line that is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.inputs.prompt import Prompt, UnfitItemError, encode, text_of
from siliconflow_provider.inputs.request_fast_path import plain_requests
from siliconflow_provider.inputs.request_lines import RequestLine, check_request, custom_id_fault, read_request
from siliconflow_provider.jsonl import decode_lines

_row_decoder = msgspec.json.Decoder(dict[str, Any])
_MARK = "\0the text\0"


@dataclass(frozen=True)
class Request:
    """A request line, and the row that it was made of."""

    custom_id: str
    line: bytes
    model: str | None
    row: bytes | None = None


@dataclass(frozen=True)
class Requests:
    """Request lines that lie together, what they name, and the rows that they were made of."""

    custom_ids: list[str]
    lines: bytes
    models: list[str | None]
    rows: bytes | None = None


@dataclass(frozen=True)
class RequestBuilder:
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

    def requests(self, block: bytes, index: int) -> Requests | None:
        """Return the requests of lines of JSON, or None: then each line is to be taken by itself.

        :param index: the first one's position, from 0
        """
        if self._fills_nothing:
            plain = plain_requests(block)
            if plain is None:
                return None
            return Requests([each.custom_id for each in plain], block, [each.body.model for each in plain])
        rows = decode_lines(_row_decoder, block) if self.prompt is not None else None
        try:
            return None if rows is None else self._of_rows(rows, block, index)
        except (ValueError, RecursionError):
            return None

    @cached_property
    def _fills_nothing(self) -> bool:
        return not (self.prompt or self.system_prompt or self.instruction or self.request_params or self.model)

    def _made(self, item: Any, encoded: bytes | None, index: int) -> Request:
        generated = _generated(index)
        if isinstance(item, str):
            return self._of_messages(generated, [{"role": "user", "content": item}])
        if isinstance(item, Mapping):
            if self.prompt is not None:
                return self._of_row(item, encoded or encode(item), index)
            if not isinstance(item.get("body"), Mapping):
                raise UnfitItemError(
                    f"it is neither a request line (custom_id, body) nor can it become one: give prompt=, which names "
                    f"columns of the row ({first_names(item) or 'it has none'})"
                )
            return self._filled({"custom_id": generated, **item})
        if isinstance(item, Sequence) and not isinstance(item, bytes):
            return self._of_messages(generated, list(item))
        raise UnfitItemError(f"it is {type(item).__name__}: give a text, a list of messages, a row or a request line")

    def _of_messages(self, custom_id: str, messages: list[Any]) -> Request:
        if self.prompt is not None:
            raise UnfitItemError(
                "prompt= names columns of a row, and this is a text or a list: give rows, each a mapping (those of a "
                "DataFrame are df.to_dict('records')) or, in a file, an object on its own line; or leave prompt= out"
            )
        return self._filled({"custom_id": custom_id, "body": {"messages": messages}})

    def _of_row(self, row: Mapping[str, Any], encoded: bytes, index: int) -> Request:
        custom_id, line = self._line_of(row, index)
        return Request(custom_id, line, self._frame[-1], encoded)

    def _of_rows(self, rows: list[dict[str, Any]], block: bytes, index: int) -> Requests:
        made = [self._line_of(row, number) for number, row in enumerate(rows, start=index)]
        custom_ids, lines = zip(*made, strict=True)
        return Requests(list(custom_ids), b"".join(lines), [self._frame[-1]] * len(rows), block)

    def _line_of(self, row: Mapping[str, Any], index: int) -> tuple[str, bytes]:
        custom_id = _generated(index) if self.id_column is None else text_of(row, self.id_column)
        fault = custom_id_fault(custom_id)
        if fault is not None:
            raise UnfitItemError(fault)
        content = self._prompt.fill(row)
        start, middle, end, _ = self._frame
        return custom_id, b"".join((start, encode(custom_id), middle, encode(content), end))

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt(self.prompt or "")

    @cached_property
    def _frame(self) -> tuple[bytes, bytes, bytes, str | None]:
        """What is the same in the lines of all rows: before the id, before the text and after it; and the model."""
        request = self._filled({"custom_id": _MARK, "body": {"messages": [{"role": "user", "content": _MARK}]}})
        start, middle, end = request.line.split(encode(_MARK))
        return start, middle, end, request.model

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
        reason = check_request(request) or custom_id_fault(request.custom_id)
        if reason is not None:
            raise UnfitItemError(reason)
        return Request(request.custom_id, line, request.body.model)


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnfitItemError(f"not JSON in UTF-8: {error} (a file of items is JSON lines, one object a line)") from None


def _generated(index: int) -> str:
    return f"request-{index + 1:06d}"
