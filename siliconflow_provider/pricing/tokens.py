"""Count the tokens of texts: about, by a rule of thumb, or exactly, by the tokenizer of a model."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence

from siliconflow_provider.api.redaction import shown_path
from siliconflow_provider.api.service_texts import cut

# Returns the number of tokens of texts.
TokenCounter = Callable[[Sequence[str]], int]

# Hundredths of a token for each character, by its kind. Spaces and line ends belong to the word beside them. Fitted to
# DeepSeek's tokenizer; benchmarks/tokens.py compares.
LETTER = 27
DIGIT = 75
OTHER_ASCII = 60
LONGEST_REASON = 300
# Most alphabets but the Latin one, and letters with accents.
TWO_BYTES = 60
# Chinese, Japanese, Korean and Indic characters.
THREE_BYTES = 65
# Emoji and rare characters.
FOUR_BYTES = 200


def _weight_of(byte: int) -> int:
    """Return the hundredths of a token of the character that begins with a byte of UTF-8."""
    if byte >= 0x80:
        return 0 if byte < 0xC0 else TWO_BYTES if byte < 0xE0 else THREE_BYTES if byte < 0xF0 else FOUR_BYTES
    character = chr(byte)
    return (
        LETTER if character.isalpha() else DIGIT if character.isdigit() else 0 if character.isspace() else OTHER_ASCII
    )


_WEIGHTS = bytes(map(_weight_of, range(256)))
# So many bytes have a sum that Adler-32, which is modulo 65,521, returns as it is.
_SUMMED_BYTES = 65_520 // max(_WEIGHTS)


class TokenizerError(ValueError):
    """A tokenizer cannot be loaded. The message names its file and the remedy."""


def token_hundredths(text: bytes) -> int:
    """Return about how many hundredths of a token a text in UTF-8 has."""
    weights = text.translate(_WEIGHTS)
    # The lower half of Adler-32 is the sum of the bytes, and 1. Python has nothing else that adds bytes as fast.
    blocks = (weights[start : start + _SUMMED_BYTES] for start in range(0, len(weights), _SUMMED_BYTES))
    return sum((zlib.adler32(block) & 0xFFFF) - 1 for block in blocks)


def load_tokenizer(path: str | os.PathLike[str]) -> TokenCounter:
    """Return a function that counts the tokens of texts by a `tokenizer.json`. It needs the extra `tokenizers`.

    :param path: of the local file that belongs to the model
    :raises TokenizerError: if the extra is not installed, or the file cannot be read
    """
    path = os.fspath(path)
    shown = shown_path(path)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise TokenizerError(
            f"tokenizer {shown} is read by the package tokenizers, which is not installed: "
            "pip install 'airflow-provider-siliconflow[tokenizers]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # The library raises nothing more specific.
        failure = error
    else:
        # A tokenizer.json may ask for shorter or longer texts than those that are sent.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return lambda texts: sum(map(len, tokenizer.encode_batch(list(texts), add_special_tokens=False)))
    raise TokenizerError(
        f"cannot read tokenizer {shown} ({cut(str(failure), LONGEST_REASON)}): give the tokenizer.json of the model"
    )
