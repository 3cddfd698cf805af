"""`estimate`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.cli import main
from siliconflow_provider.pricing import read_prices

MODEL = "deepseek-ai/DeepSeek-V3"
PRICES = {"currency": "CNY", "models": {MODEL: {"input": 1, "output": 4}}}
PARAMS = '{"max_tokens": 10}'
ROWS = ["--prompt", "Classify: {text}", "--model", MODEL]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text("id,text\na,I like it.\nb,不好看\n", encoding="utf-8")
    return path


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    return path


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "What is 1 + 1?"}], "max_tokens": 10}
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps({"custom_id": f"r{number}", "body": body}) + "\n" for number in range(3)))
    return path


def estimate(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["estimate", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_estimate_prints_a_table(capsys: pytest.CaptureFixture[str], reviews: Path, prices: Path) -> None:
    options = ["--request-params", PARAMS, "--prices", str(prices), "--mean-completion-tokens", "2.5"]
    assert main(["estimate", str(reviews), *ROWS, *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "requests                           2",
        "                               about           at most",
        "prompt tokens                     24               199",
        "completion tokens                  5                20",
        "cost                    CNY 0.000044       CNY 0.00028",
    ]


def test_the_table_says_why_figures_are_unknown(capsys: pytest.CaptureFixture[str], reviews: Path) -> None:
    assert main(["estimate", str(reviews), *ROWS]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[4] == "cost                         unknown           unknown"
    assert printed[6:] == [
        "completion tokens: unknown, the mean length of an answer is not known: give --mean-completion-tokens, known "
        "from an earlier job",
        "completion tokens at most: unknown, 2 requests have no max_tokens: give "
        "--request-params '{\"max_tokens\": 500}'",
        "cost: unknown, there are no prices: give --prices",
        "cost at most: unknown, there are no prices: give --prices",
    ]


def test_request_lines_are_counted_as_they_are(
    capsys: pytest.CaptureFixture[str], requests: Path, prices: Path
) -> None:
    found = estimate(capsys, requests, "--prices", prices)
    assert (found["requests"], found["most_completion_tokens"]) == (3, 30)
    assert read_prices(PRICES).cost(MODEL, found["most_prompt_tokens"], 30) is not None
    assert found["most_cost"] == str(read_prices(PRICES).cost(MODEL, found["most_prompt_tokens"], 30))


def test_input_may_be_compressed_or_a_directory(
    capsys: pytest.CaptureFixture[str], requests: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "input" / "requests.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(requests.read_bytes()))
    assert estimate(capsys, requests) == estimate(capsys, packed) == estimate(capsys, packed.parent)


def test_options_complete_the_requests(capsys: pytest.CaptureFixture[str], reviews: Path) -> None:
    plain = estimate(capsys, reviews, *ROWS)
    system = estimate(capsys, reviews, *ROWS, "--system-prompt", "Be brief.", "--id-column", "id")
    assert system["most_prompt_tokens"] - plain["most_prompt_tokens"] == 2 * (len("Be brief.") + 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none.csv"], "there is no file {}/none.csv: check the path"),
        (["{}/none/*.csv"], "no file matches it"),
        (
            ["{}/reviews.csv", "--prompt", "{{txt}}", "--model", "m"],
            "csv: 2 of 2 items are invalid; fix them and run the command again",
        ),
        (
            ["{}/reviews.csv", "--prompt", "{{text}}"],
            "csv: no request names a model; give --model and run the command again",
        ),
        (["{}/broken.jsonl.gz"], "cannot be decompressed"),
        (["{}/reviews.csv", "--prices", "{}/none.json"], "prices {}/none.json cannot be read"),
        (["{}/reviews.csv", "--tokenizer", "{}/none.json"], "tokenizer {}/none.json"),
    ],
)
def test_invalid_files_are_errors_without_traceback(
    capsys: pytest.CaptureFixture[str], reviews: Path, arguments: list[str], message: str
) -> None:
    (reviews.parent / "broken.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert main(["estimate", *(each.format(reviews.parent) for each in arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("python -m siliconflow_provider estimate: ")
    assert message.format(reviews.parent) in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["buy"],
        ["estimate"],
        ["estimate", "x.csv", "--request-params", "{"],
        ["estimate", "x.csv", "--request-params", "[1]"],
        ["estimate", "x.csv", "--mean-completion-tokens", "-1"],
        ["estimate", "x.csv", "--mean-completion-tokens", "nan"],
        ["estimate", "x.csv", "--mean-completion-tokens", "1e999999"],
        ["estimate", "x.csv", "--mean-completion-tokens", "many"],
    ],
)
def test_invalid_arguments_end_with_two(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_estimate_reads_messages_of_the_first_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    row = {"chat": [{"role": "user", "content": "Hello"}]}
    path.write_text(f"{json.dumps(row)}\n" * 5)
    assert estimate(capsys, path, "--messages-column", "chat", "--model", MODEL, "--limit", "2")["requests"] == 2
    assert main(["estimate", str(path), "--messages-column", "chat", "--prompt", "{chat}"]) == 2
    assert "give either --prompt or --messages-column" in capsys.readouterr().err
