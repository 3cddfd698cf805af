"""The numbers on the page of costs are those of the code, and so are the options of the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from siliconflow_provider.cli import main
from siliconflow_provider.pricing import format_amount, read_prices
from siliconflow_provider.pricing.requests import (
    MESSAGE_TOKENS,
    MOST_MESSAGE_TOKENS,
    MOST_REQUEST_TOKENS,
    MOST_THINKING,
    MOST_TOOLS_TOKENS,
    REQUEST_TOKENS,
    TOOLS_TOKENS,
)
from siliconflow_provider.pricing.tokens import token_hundredths
from tests.docs.pages import names_in, page

COSTS = page("docs/guides/costs.md")
COMMANDS = page("docs/reference/command-line.md")
BLOCKS = {block.title: block.text for block in COSTS.blocks}
MODEL = "deepseek-ai/DeepSeek-V3"


def test_the_documented_estimate_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("prices.json", "reviews.csv"):
        Path(name).write_text(BLOCKS[name], encoding="utf-8")
    assert BLOCKS["estimate"].startswith("python -m siliconflow_provider ")
    assert main(shlex.split(BLOCKS["estimate"].replace("\\\n", ""))[3:]) == 0
    assert capsys.readouterr().out == BLOCKS["estimated"]


@pytest.mark.parametrize("row", COSTS.table("Cost of an answer"), ids=" ".join)
def test_documented_costs_are_computed(row: list[str]) -> None:
    prompt, cached, completion = (int(cell.replace(",", "")) for cell in row[:3])
    cost = read_prices(BLOCKS["prices.json"]).cost(MODEL, prompt, completion, cached)
    assert cost is not None
    assert [str(cost), f"`{format_amount(cost, 'CNY')}`"] == row[3:]


def test_the_table_has_the_rule_of_thumb() -> None:
    documented = [cells[1] for cells in COSTS.table("Prompt tokens")]
    real = [token_hundredths(character.encode()) / 100 for character in ("a", "7", " ", "!", "é", "中", "😀")]
    assert [float(tokens) for tokens in documented] == real


def test_documented_constants_are_the_codes() -> None:
    about, most = re.findall(
        r"^(?:About|At most): .*?(?=\n\n)", COSTS.section("Prompt tokens"), re.DOTALL | re.MULTILINE
    )
    assert re.findall(r"\b\d+\b", about) == [str(each) for each in (REQUEST_TOKENS, MESSAGE_TOKENS, TOOLS_TOKENS)]
    template = (MOST_REQUEST_TOKENS, MOST_MESSAGE_TOKENS, MOST_TOOLS_TOKENS)
    assert [each for each in template if f"{each:,}" not in most] == []
    assert COSTS.table("Completion tokens")[-1][1].startswith(f"{MOST_THINKING:,}, ")


def test_keys_of_prices_are_documented() -> None:
    prices = read_prices(BLOCKS["prices.json"]).to_json()
    documented = {names_in(row[0])[0] for row in COSTS.table("Give prices")}
    assert documented == {*prices, *prices["models"][MODEL]}


def test_options_of_estimate_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["estimate", "--help"])
    shown = re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert [names_in(row[0])[0] for row in COMMANDS.table("estimate")] == shown


def test_keys_of_the_json_are_documented(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert main(["estimate", str(tmp_path / "empty.jsonl"), "--json"]) == 0
    keys = re.findall(r'^  "(\w+)":', capsys.readouterr().out, re.MULTILINE)
    (documented,) = [row[2] for row in COMMANDS.table("estimate") if row[0] == "`--json`"]
    assert names_in(documented) == keys
