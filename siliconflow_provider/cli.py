"""The commands of `python -m siliconflow_provider`. None of them needs Airflow for local files."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from siliconflow_provider.inputs import ESTIMATE, RequestBuilder, first_items, items_of_file, prepare
from siliconflow_provider.jsonl import line_blocks, read_chunks
from siliconflow_provider.pricing import Estimate, Estimator, format_amount, load_tokenizer, read_prices

# The largest number of tokens that an option may have.
MOST_TOKENS = 10**9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code: 1 if a file is invalid, 2 if the arguments are."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        output: str = options.run(options)
    except (OSError, ValueError) as error:
        # Errors of this package are sentences; one of the system names its file.
        print(f"{parser.prog} {options.command}: {error}", file=sys.stderr)
        return 1
    print(output)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m siliconflow_provider", description="SiliconFlow batch inference without a DAG."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_estimate(commands)
    return parser


def _add_estimate(commands: Any) -> None:
    summary = "count the tokens of an input file and estimate its cost; needs no key and no network"
    parser = commands.add_parser("estimate", help=summary, description=f"{summary.capitalize()}.")
    parser.set_defaults(run=estimate)
    parser.add_argument("file", metavar="FILE", help="what input_path of BatchInferenceOperator takes")
    parser.add_argument("--prompt", metavar="TEXT", help="builds a request from each row; {column} is replaced")
    parser.add_argument("--messages-column", metavar="NAME", help="column with the messages of each row")
    parser.add_argument("--id-column", metavar="NAME", help="column with the custom_id of each row")
    parser.add_argument("--system-prompt", metavar="TEXT", help="for requests without a system message")
    parser.add_argument(
        "--request-params",
        type=params,
        default={},
        metavar="JSON",
        help="default parameters of requests, such as '{\"max_tokens\": 100}'",
    )
    parser.add_argument("--model", help="for requests without a model")
    parser.add_argument("--limit", type=count, metavar="N", help="only the first N items")
    parser.add_argument("--prices", metavar="FILE", help="JSON file with the prices of models")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="tokenizer.json of the model; the default is a rule of thumb"
    )
    parser.add_argument(
        "--mean-completion-tokens", type=number, metavar="N", help="tokens of a mean answer, from an earlier job"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def params(text: str) -> Mapping[str, Any]:
    """Return the parameters of requests. argparse shows this function's name in its errors."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("give a JSON object")
    return value


def count(text: str) -> int:
    """Return a number of items."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be a number of at least 1")
    return int(text)


def number(text: str) -> Decimal:
    """Return a number of tokens."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and 0 <= value <= MOST_TOKENS):
        raise argparse.ArgumentTypeError(f"must be a number from 0 to {MOST_TOKENS:,}")
    return value


def estimate(options: argparse.Namespace) -> str:
    """Return the estimate of the requests that a job would send, as a table or as JSON.

    :raises ValueError: if the options do not fit together, or the input, the prices or the tokenizer are invalid
    :raises OSError: if a file cannot be read
    """
    if options.prompt is not None and options.messages_column is not None:
        raise ValueError("give either --prompt or --messages-column")
    prices = None if options.prices is None else read_prices(options.prices)
    counter = None if options.tokenizer is None else load_tokenizer(options.tokenizer)
    builder = RequestBuilder(
        prompt=options.prompt,
        messages_column=options.messages_column,
        id_column=options.id_column,
        system_prompt=options.system_prompt,
        request_params=options.request_params,
        model=options.model,
    )
    estimator = Estimator(options.model, counter)
    items: Iterable[Any] = _items_of(options.file)
    if options.limit is not None:
        items = first_items(items, options.limit)
    with tempfile.TemporaryFile() as requests, tempfile.TemporaryFile() as rows:
        prepare(items, builder, requests, rows, name=options.file, purpose=ESTIMATE)
        requests.seek(0)
        for lines in line_blocks(read_chunks(requests)):
            estimator.add(lines)
    found = estimator.estimate(prices, options.mean_completion_tokens)
    return json.dumps(found.to_json(), indent=2) if options.json else _table(found)


def _items_of(name: str) -> Iterator[Any]:
    path = Path(name)
    if path.is_file():
        return items_of_file(name, partial(_pieces_of, path), lambda: path.open("rb"))
    if "://" not in name and "*" not in name and not path.is_dir():
        raise FileNotFoundError(f"there is no file {name}: check the path")
    # Listing directories and object storage is Airflow's part.
    from siliconflow_provider.operators.requests import items_at

    return items_at(name)


def _pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.suffix.lower() != ".gz":
            yield from read_chunks(file)
            return
        try:
            yield from read_chunks(cast(IO[bytes], gzip.GzipFile(fileobj=file)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be decompressed: {error}. Fix the file") from None


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
