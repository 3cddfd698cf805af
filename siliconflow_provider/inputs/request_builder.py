"""Build request lines from rows, prompts, messages and requests of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec

from siliconflow_provider.api.service_texts import first_names
from siliconflow_provider.inputs.messages import messages_in
from siliconflow_provider.inputs.prompt import PartsPrompt, Prompt, column_text, column_value, encode
from siliconflow_provider.inputs.request_fast_path import decode_common_requests
from siliconflow_provider.inputs.request_lines import RequestLine, custom_id_error, read_request, request_error
from siliconflow_provider.inputs.values import InvalidItemError, plain_item, plain_row, plain_value
from siliconflow_provider.jsonl import decode_lines

_row_decoder = msgspec.json.Decoder(dict[str, Any])
_raw_row_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PLACEHOLDER = "\0placeholder\0"
_ROW_OF_CURSOR = (
    "For a row of a cursor, give dict(zip([column[0] for column in cursor.description], row)), or give all rows as a "
    "data frame"
)


@dataclass(frozen=True)
class BuiltRequest:
    """A request line, and the row from which it was built."""

    custom_id: str
    line: bytes
    model: str | None
    row: bytes | None = None


@dataclass(frozen=True)
class RequestBlock:
    """Consecutive request lines with their ids and models, and the rows from which they were built."""

    custom_ids: list[str]
    lines: bytes
    models: list[str | None]
    rows: bytes | None = None


@dataclass(frozen=True)
class RequestBuilder:
    """Build request lines. The parameters are defaults for items that do not set them.

    :param prompt: builds a request from a row: `{column}` is replaced, other braces stay as they are. A text, or the
        content parts of a message
    :param messages_column: the column with the messages of a row; give either this or a prompt
    :param id_column: the column with the `custom_id` of a row; without it, ids are generated: `request-000001`, ...
    :param system_prompt: for requests without a system message
    :param instruction: appended to the system message of every request
    :param request_params: fields of the body, such as `max_tokens`
    :param model: for requests without a model
    :param is_command: True if a command line has the parameters as options, for advice
    """

    prompt: str | Sequence[Mapping[str, Any]] | None = None
    messages_column: str | None = None
    id_column: str | None = None
    system_prompt: str | None = None
    instruction: str | None = None
    request_params: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    is_command: bool = False

    def build(self, item: Any, index: int) -> BuiltRequest:
        """Return the request of an item: a row, a prompt, a list of messages, or a request line.

        :param item: a text, list or mapping; or a line of JSON as bytes, which stays as it is if there are no defaults
        :param index: position of the request, from 0
        :raises InvalidItemError: if the item cannot become a request that the service accepts
        """
        try:
            if not isinstance(item, bytes):
                return self._build_from(item, None, index)
            if self._has_no_defaults:
                return self._given(item)
            line = item.strip()
            return self._build_from(_decoded(line), line, index)
        except InvalidItemError:
            raise
        except (ValueError, RecursionError, TypeError) as error:
            raise InvalidItemError(str(error)) from None

    def build_block(self, block: bytes, index: int) -> RequestBlock | None:
        """Return the requests of lines of JSON, or None if each line has to be built by itself.

        :param index: position of the first request, from 0
        """
        if self._has_no_defaults:
            requests = decode_common_requests(block)
            if requests is None:
                return None
            ids, models = [request.custom_id for request in requests], [request.body.model for request in requests]
            return RequestBlock(ids, block, models)
        rows = decode_lines(_row_decoder, block) if self.prompt is not None else None
        try:
            return None if rows is None else self._from_rows(rows, block, index)
        except (ValueError, RecursionError):
            return None

    def kept_row(self, row: Mapping[str, Any], encoded: bytes | None) -> bytes:
        """Return a row as JSON, without its column of messages.

        :param encoded: the line that the row comes from, if any; its values stay as they are written
        """
        fields: Mapping[str, Any] = row
        if encoded is not None:
            if self.messages_column is None:
                return encoded
            fields = _raw_row_decoder.decode(encoded)
        kept = {name: field for name, field in fields.items() if name != self.messages_column}
        return encode(plain_row(kept) if encoded is None else kept)

    @cached_property
    def _has_no_defaults(self) -> bool:
        return not (self.needs_rows or self.system_prompt or self.instruction or self.request_params or self.model)

    @property
    def needs_rows(self) -> bool:
        """True if items have to be rows, since requests are built from their columns."""
        return self.prompt is not None or self.messages_column is not None

    def _build_from(self, item: Any, encoded: bytes | None, index: int) -> BuiltRequest:
        generated = generated_id(index)
        item = plain_item(item)
        if isinstance(item, str):
            request = None if self.needs_rows else _request_in(item)
            if request is not None:
                return self._with_defaults({"custom_id": generated, **request})
            return self._from_messages(generated, [{"role": "user", "content": item}])
        if isinstance(item, Mapping):
            if self.messages_column is not None:
                return self._from_messages_in(item, self.messages_column, encoded, index)
            if self.prompt is not None:
                return self._from_row(item, self.kept_row(item, encoded), index)
            if not isinstance(item.get("body"), Mapping):
                raise self._no_request(item)
            return self._with_defaults({"custom_id": generated, **plain_row(item)})
        if isinstance(item, list) or _is_message_tuple(item):
            return self._from_messages(generated, plain_value(item))
        hint = f". {_ROW_OF_CURSOR}" if isinstance(item, tuple) else ""
        raise InvalidItemError(
            f"it is {type(item).__name__}; give a text, a list of messages, a row such as a dict, or a request line"
            f"{hint}"
        )

    def _from_messages(self, custom_id: str, messages: list[Any]) -> BuiltRequest:
        if self.needs_rows:
            name = "prompt" if self.prompt is not None else "messages_column"
            raise InvalidItemError(
                f"{name}= needs rows, but this is a text or a list; give rows as mappings (for a DataFrame, "
                f"df.to_dict('records')) or, in a file, as one JSON object per line; or leave {name}= out",
                concerns_source=True,
            )
        return self._with_defaults({"custom_id": custom_id, "body": {"messages": messages}})

    def _from_messages_in(self, row: Mapping[str, Any], column: str, encoded: bytes | None, index: int) -> BuiltRequest:
        """Return the request with the messages in a column of a row."""
        value = column_value(row, column)
        try:
            messages = messages_in(value)
        except InvalidItemError as error:
            raise InvalidItemError(f"column {column!r} has {error}") from None
        built = self._with_defaults({"custom_id": self._custom_id_of(row, index), "body": {"messages": messages}})
        return replace(built, row=self.kept_row(row, encoded))

    def _from_row(self, row: Mapping[str, Any], encoded: bytes, index: int) -> BuiltRequest:
        custom_id, line = self._line_from(row, index)
        return BuiltRequest(custom_id, line, self._line_template[-1], encoded)

    def _from_rows(self, rows: list[dict[str, Any]], block: bytes, index: int) -> RequestBlock:
        built = [self._line_from(row, position) for position, row in enumerate(rows, start=index)]
        custom_ids, lines = zip(*built, strict=True)
        return RequestBlock(list(custom_ids), b"".join(lines), [self._line_template[-1]] * len(rows), block)

    def _line_from(self, row: Mapping[str, Any], index: int) -> tuple[str, bytes]:
        """Return the custom_id and the request line of a row."""
        custom_id = self._custom_id_of(row, index)
        content = self._prompt.fill(row)
        start, middle, end, _ = self._line_template
        return custom_id, b"".join((start, encode(custom_id), middle, encode(content), end))

    def _custom_id_of(self, row: Mapping[str, Any], index: int) -> str:
        custom_id = generated_id(index) if self.id_column is None else column_text(row, self.id_column)
        reason = custom_id_error(custom_id)
        if reason is not None:
            raise InvalidItemError(reason)
        return custom_id

    @cached_property
    def _plain_params(self) -> dict[str, Any]:
        return plain_row(self.request_params)

    @cached_property
    def _prompt(self) -> Prompt | PartsPrompt:
        prompt = self.prompt or ""
        return Prompt(prompt, is_jinja=not self.is_command) if isinstance(prompt, str) else PartsPrompt(prompt)

    @cached_property
    def _line_template(self) -> tuple[bytes, bytes, bytes, str | None]:
        """Return the bytes before the id, before the prompt and after it in the line of every row; and the model."""
        try:
            request = self._with_defaults(
                {"custom_id": _PLACEHOLDER, "body": {"messages": [{"role": "user", "content": _PLACEHOLDER}]}}
            )
        except (ValueError, RecursionError, TypeError) as error:
            raise InvalidItemError(str(error), concerns_source=True) from None
        start, middle, end = request.line.split(encode(_PLACEHOLDER))
        return start, middle, end, request.model

    def _with_defaults(self, line: dict[str, Any]) -> BuiltRequest:
        body = dict(line["body"])
        if isinstance(body.get("messages"), list | tuple):
            body["messages"] = self._with_system_message(list(body["messages"]))
        if self.model is not None and body.get("model") is None:
            body["model"] = self.model
        body = {**self._plain_params, **body}
        full = {"custom_id": line["custom_id"], "method": "POST", "url": "/v1/chat/completions", **line, "body": body}
        return self._checked(encode(full) + b"\n")

    def _with_system_message(self, messages: list[Any]) -> list[Any]:
        given = next((message for message in messages if _is_system(message)), None)
        if given is None:
            texts = [text for text in (self.system_prompt, self.instruction) if text]
            return [{"role": "system", "content": "\n\n".join(texts)}, *messages] if texts else messages
        if self.instruction:
            own = given.get("content")
            instruction = [{"type": "text", "text": self.instruction}]
            content = [*own, *instruction] if isinstance(own, list) else f"{own or ''}\n\n{self.instruction}".lstrip()
            extended = {**given, "content": content}
            return [extended if message is given else message for message in messages]
        return messages

    def _no_request(self, row: Mapping[Any, Any]) -> InvalidItemError:
        option = "--prompt or --messages-column" if self.is_command else "BatchInferenceOperator a prompt="
        return InvalidItemError(
            f"not a request line (custom_id, body). To build requests from rows, give {option} that names columns of "
            f"the row ({first_names(row) or 'it has none'})"
        )

    def _given(self, line: bytes) -> BuiltRequest:
        try:
            return self._checked(line)
        except ValueError:
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                row = msgspec.json.decode(line)
                if isinstance(row, dict) and row and row.keys().isdisjoint(("custom_id", "body")):
                    raise self._no_request(row) from None
            raise

    def _checked(self, line: bytes) -> BuiltRequest:
        request: RequestLine = read_request(line)
        reason = request_error(request) or custom_id_error(request.custom_id)
        if reason is not None:
            raise InvalidItemError(reason)
        return BuiltRequest(request.custom_id, line, request.body.model)


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidItemError(f"not JSON in UTF-8: {error} (a file needs one JSON object per line)") from None


def _request_in(text: str) -> dict[str, Any] | None:
    """Return the request line that a text is as JSON, or None if it is a prompt."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("body"), dict) else None


def _is_message_tuple(item: Any) -> bool:
    """Return True if a tuple holds messages; a bare tuple of values could be a row or anything else."""
    return isinstance(item, tuple) and bool(item) and all(isinstance(each, Mapping) for each in item)


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "system"


def generated_id(index: int) -> str:
    """Return the custom_id of an item without one.

    :param index: position of the item, from 0
    """
    return f"request-{index + 1:06d}"
