"""Count the tokens of request lines: those of their prompts, and the most that their answers can have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from siliconflow_provider.jsonl import split_lines
from siliconflow_provider.pricing.tokens import TokenCounter, token_hundredths

# Tokens that the chat template of a model adds: about, and at most with a default system prompt and the instructions
# that go with tools.
REQUEST_TOKENS, MOST_REQUEST_TOKENS = 4, 64
MESSAGE_TOKENS, MOST_MESSAGE_TOKENS = 3, 16
TOOLS_TOKENS, MOST_TOOLS_TOKENS = 150, 1_024
# A template may write the JSON of tools in a longer form.
MOST_JSON_FACTOR = 2
# The service's limit of `thinking_budget`, for requests that may think and set none.
MOST_THINKING = 32_768
# A larger limit is none.
LARGEST_LIMIT = 10**9
# Models that answer without a chain of thought. Others are counted with one, unless the request says otherwise.
_NOT_THINKING = {
    "deepseek-ai/DeepSeek-V3",
    "moonshotai/Kimi-K2-Instruct",
    "moonshotai/Kimi-K2-Instruct-0905",
}
# Fields of a body that add nothing to its prompt.
_WITHOUT_PROMPT = frozenset(
    (
        *("messages", "model", "max_tokens", "max_completion_tokens", "n", "enable_thinking", "thinking_budget"),
        *("reasoning_effort", "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty"),
        *("repetition_penalty", "seed", "stop", "stream", "stream_options", "logprobs", "top_logprobs", "user"),
    )
)


class _Line(msgspec.Struct, gc=False):
    body: dict[str, Any]


_decoder = msgspec.json.Decoder(_Line)


@dataclass
class TokenSums:
    """Tokens of all requests to one model.

    :ivar prompt_hundredths: hundredths of the tokens that the prompts have about
    :ivar thinking: number of requests that are counted with `MOST_THINKING` tokens of thinking
    :ivar unlimited: number of requests without `max_tokens`
    :ivar media: number of requests with images or other parts that are not text
    """

    requests: int = 0
    prompt_hundredths: int = 0
    most_prompt: int = 0
    most_completion: int = 0
    thinking: int = 0
    unlimited: int = 0
    media: int = 0

    def add_lines(self, bodies: list[dict[str, Any]], model: str | None, counter: TokenCounter | None) -> None:
        """Add requests.

        :param bodies: their bodies
        :param model: their model
        :param counter: counts the tokens of texts; by default they are estimated
        """
        texts: list[str] = []
        json_texts: list[bytes] = []
        messages = 0
        for body in bodies:
            messages += len(body["messages"])
            self.media += self._add_texts(body, texts, json_texts)
            self._add_completion(body, model)
        tools = sum(bool(body.get("tools")) for body in bodies)
        self.requests += len(bodies)
        self._add_template(len(bodies), messages, tools)
        self._add_prompt(texts, json_texts, counter)

    def _add_texts(self, body: dict[str, Any], texts: list[str], json_texts: list[bytes]) -> bool:
        """Collect the texts of a prompt, and return True if it has other parts, too."""
        has_media = False
        for message in body["messages"]:
            for name, value in message.items():
                if isinstance(value, str):
                    if name != "role":
                        texts.append(value)
                elif name == "content" and value is not None:
                    has_media |= _add_parts(value if isinstance(value, list) else [value], texts)
                elif value is not None:
                    json_texts.append(msgspec.json.encode(value))
        json_texts.extend(msgspec.json.encode(body[name]) for name in body.keys() - _WITHOUT_PROMPT)
        return has_media

    def _add_template(self, requests: int, messages: int, tools: int) -> None:
        added = requests * REQUEST_TOKENS + messages * MESSAGE_TOKENS + tools * TOOLS_TOKENS
        self.prompt_hundredths += 100 * added
        self.most_prompt += requests * MOST_REQUEST_TOKENS + messages * MOST_MESSAGE_TOKENS + tools * MOST_TOOLS_TOKENS

    def _add_prompt(self, texts: list[str], json_texts: list[bytes], counter: TokenCounter | None) -> None:
        encoded, encoded_json = "".join(texts).encode(), b"".join(json_texts)
        self.most_prompt += MOST_JSON_FACTOR * len(encoded_json)
        if counter is None:
            self.prompt_hundredths += token_hundredths(encoded) + token_hundredths(encoded_json)
            # A token has at least one byte.
            self.most_prompt += len(encoded)
        else:
            tokens = counter(texts)
            self.prompt_hundredths += 100 * (tokens + counter([text.decode() for text in json_texts]))
            self.most_prompt += tokens

    def _add_completion(self, body: dict[str, Any], model: str | None) -> None:
        limits = [_whole_number(body.get(name)) for name in ("max_tokens", "max_completion_tokens")]
        known = [limit for limit in limits if limit is not None]
        choices = 1 if body.get("n") is None else _whole_number(body["n"])
        if not known or choices is None:
            self.unlimited += 1
            return
        thinking = _thinking_limit(body, model)
        self.thinking += thinking is None
        self.most_completion += choices * (max(known) + (MOST_THINKING if thinking is None else thinking))


def bodies_by_model(lines: bytes, default: str | None) -> dict[str | None, list[dict[str, Any]]]:
    """Return the bodies of request lines by their models.

    :param default: model of lines that name none
    :raises ValueError: if a line is not a request
    """
    found: dict[str | None, list[dict[str, Any]]] = {}
    for line in split_lines(lines):
        if not line.strip():
            continue
        try:
            body = _decoder.decode(line).body
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"not a request line: {error}") from None
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise ValueError("not a request line: body.messages is not a list of messages")
        model = body.get("model")
        found.setdefault(model if isinstance(model, str) else default, []).append(body)
    return found


def _add_parts(parts: list[Any], texts: list[str]) -> bool:
    """Collect the texts of a list of content parts, and return True if other parts are there."""
    others = False
    for part in parts:
        # By its type alone: an image stays one if it has a text, too.
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else part
        if isinstance(text, str):
            texts.append(text)
        else:
            others = True
    return others


def _thinking_limit(body: dict[str, Any], model: str | None) -> int | None:
    """Return the most tokens of a chain of thought, which `max_tokens` does not count; None if nothing limits it."""
    if body.get("enable_thinking") is False:
        return 0
    budget = _whole_number(body.get("thinking_budget"))
    if budget is not None:
        return budget
    asks = body.get("enable_thinking") or body.get("reasoning_effort")
    return 0 if model in _NOT_THINKING and not asks else None


def _whole_number(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST_LIMIT else None
