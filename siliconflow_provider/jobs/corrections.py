"""Ask the model to correct an answer that is not of the task's `output_type`."""

from __future__ import annotations

import msgspec

from siliconflow_provider.jsonl import LONGEST_LINE
from siliconflow_provider.outputs import ResultRow, correctable_text

# Characters of the answer that the model is shown again, and that are billed again as its prompt.
LONGEST_ANSWER = 20_000
# Raw values keep their bytes, such as the digits of a number.
_line_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_messages_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_encoder = msgspec.json.Encoder()


def with_correction(line: bytes, row: ResultRow) -> bytes:
    """Return a request line that shows the model its invalid answer and the reason, and asks for a corrected one.

    The line is returned unchanged if the row has no such answer, or if the new line would be too long to send.

    :param line: the original request line, with its end of line
    :param row: the newest row of the request
    """
    answer = correctable_text(row)
    if answer is None or row.error is None:
        return line
    request = _line_decoder.decode(line)
    body = _line_decoder.decode(request["body"])
    added = [
        {"role": "assistant", "content": answer[:LONGEST_ANSWER]},
        {"role": "user", "content": _instruction(answer, row.error.message)},
    ]
    messages = [*_messages_decoder.decode(body["messages"]), *(msgspec.Raw(_encoder.encode(each)) for each in added)]
    body["messages"] = msgspec.Raw(_encoder.encode(messages))
    request["body"] = msgspec.Raw(_encoder.encode(body))
    corrected = _encoder.encode(request) + b"\n"
    return corrected if len(corrected) <= LONGEST_LINE else line


def _instruction(answer: str, reason: str) -> str:
    shown = f" (only its first {LONGEST_ANSWER:,} characters are shown)" if len(answer) > LONGEST_ANSWER else ""
    return (
        f"Your answer{shown} is not valid: {reason.rstrip('.')}. Answer again with the complete, corrected JSON object "
        "and nothing else."
    )
