"""`estimate`: count the tokens of an input, and estimate its cost."""

from __future__ import annotations

import argparse
import json
import tempfile

from siliconflow_provider.cli.arguments import Outcome
from siliconflow_provider.cli.input_files import builder_of, items_of, shown_name
from siliconflow_provider.inputs import ESTIMATE, prepare
from siliconflow_provider.jsonl import line_blocks, read_chunks
from siliconflow_provider.pricing import Estimate, Estimator, format_amount, load_tokenizer, read_prices

OPTIONS = {
    "mean": "give --mean-completion-tokens, known from an earlier job",
    "prices": "give --prices",
    "max_tokens": "give --request-params '{\"max_tokens\": 500}'",
}


def run(options: argparse.Namespace, client: None) -> Outcome:
    """Return the estimate of the requests that a job would send, as a table or as JSON.

    :raises ValueError: if the input, the prices or the tokenizer are invalid
    :raises OSError: if a file cannot be read
    """
    builder = builder_of(options)
    prices = None if options.prices is None else read_prices(options.prices)
    counter = None if options.tokenizer is None else load_tokenizer(options.tokenizer)
    estimator = Estimator(options.model, counter, OPTIONS)
    items = items_of(options.file, options.limit)
    with tempfile.TemporaryFile() as requests, tempfile.TemporaryFile() as rows:
        prepare(items, builder, requests, rows, name=shown_name(options.file), purpose=ESTIMATE)
        requests.seek(0)
        for lines in line_blocks(read_chunks(requests)):
            estimator.add(lines)
    found = estimator.estimate(prices, options.mean_completion_tokens)
    return Outcome(json.dumps(found.to_json(), indent=2) if options.json else _table(found))


def _table(found: Estimate) -> str:
    """Return the estimate as aligned lines, with the reasons of what is unknown below."""

    def amount(name: str, *, round_up: bool) -> str:
        value, currency = getattr(found, name), found.currency
        return "unknown" if value is None or currency is None else format_amount(value, currency, round_up=round_up)

    def tokens(name: str) -> str:
        value = getattr(found, name)
        return "unknown" if value is None else f"{value:,}"

    rows = [
        ("requests", f"{found.requests:,}", ""),
        ("", "about", "at most"),
        ("prompt tokens", tokens("prompt_tokens"), tokens("most_prompt_tokens")),
        ("completion tokens", tokens("completion_tokens"), tokens("most_completion_tokens")),
        ("cost", amount("cost", round_up=False), amount("most_cost", round_up=True)),
    ]
    lines = [f"{name:<18}{about:>18}{most:>18}".rstrip() for name, about, most in rows]
    reasons = [f"{_LABELS[name]}: unknown, {reason}" for name, reason in found.reasons.items()]
    return "\n".join([*lines, *([""] if reasons or found.notes else []), *reasons, *found.notes])


_LABELS = {
    "most_prompt_tokens": "prompt tokens at most",
    "completion_tokens": "completion tokens",
    "most_completion_tokens": "completion tokens at most",
    "cost": "cost",
    "most_cost": "cost at most",
}
