"""Read an output or error file of a batch as rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from siliconflow_provider.jsonl import decode_lines, split_lines
from siliconflow_provider.outputs.answers import LARGEST_COUNT, ResultRow, cached_of_prompt, parse_answer

log = logging.getLogger(__name__)

SHOWN_LINES = 10


class Counts(Protocol):
    """Count the lines that name no request."""

    unreadable_lines: int


# The usual form of a good answer. `parse_answer` reads all other lines.
_Tokens = Annotated[int, Meta(ge=0, lt=LARGEST_COUNT)] | None


class _Message(msgspec.Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    refusal: None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    logprobs: None = None
    finish_reason: str | None = None


class _PromptTokens(msgspec.Struct, gc=False):
    cached_tokens: _Tokens = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: _Tokens = None
    completion_tokens: _Tokens = None
    prompt_tokens_details: _PromptTokens | None = None
    prompt_cache_hit_tokens: _Tokens = None


class _Body(msgspec.Struct, gc=False):
    choices: Annotated[list[_Choice], Meta(min_length=1, max_length=1)]
    usage: _Usage
    model: str | None = None
    error: None = None


class _Response(msgspec.Struct, gc=False):
    body: _Body
    status_code: Literal[200] | None = None


class _Answer(msgspec.Struct, gc=False):
    custom_id: str
    response: _Response
    error: None = None


_decoder = msgspec.json.Decoder(_Answer)


def rows_of_file(blocks: Iterable[bytes], batch_id: str, name: str, counts: Counts) -> Iterator[ResultRow]:
    """Yield a row for each line. Count and log the lines that name no request.

    :param blocks: the file's lines, in blocks
    :param name: the file's name in messages
    """
    first = 1
    for block in blocks:
        answers = decode_lines(_decoder, block)
        if answers is not None:
            first += len(answers)
            for answer in answers:
                yield _row(answer, batch_id)
            continue
        lines = split_lines(block)
        for number, line in enumerate(lines, start=first):
            if not line.strip():
                continue
            try:
                yield parse_answer(line, batch_id)
            except msgspec.DecodeError as error:
                counts.unreadable_lines += 1
                if counts.unreadable_lines <= SHOWN_LINES:
                    log.warning(
                        "ignored unreadable line %s of the %s file of %s: %s", f"{number:,}", name, batch_id, error
                    )
        first += len(lines)


def _row(answer: _Answer, batch_id: str) -> ResultRow:
    body = answer.response.body
    (choice,) = body.choices
    usage = body.usage
    details, cached = usage.prompt_tokens_details, usage.prompt_cache_hit_tokens
    if details is not None and details.cached_tokens is not None:
        cached = details.cached_tokens
    return ResultRow(
        custom_id=answer.custom_id,
        status="succeeded",
        content=choice.message.content,
        reasoning_content=choice.message.reasoning_content,
        tool_calls=choice.message.tool_calls,
        finish_reason=choice.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=cached_of_prompt(cached, usage.prompt_tokens),
        model=body.model,
        batch_id=batch_id,
    )
