"""The page of the command line: its examples run, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.cli import main
from siliconflow_provider.cli.batch_documents import document_of
from siliconflow_provider.cli.commands import COMMANDS
from siliconflow_provider.emulator.server import Emulator
from tests.docs.pages import Block, names_in, page

PAGE = page("docs/reference/command-line.md")
COMMON = {"--conn-id", "--base-url", "--json"}
ID = "batch_vnfimzlrwq"
# Each example, with the block below it.
EXAMPLES = [(block, below) for block, below in pairwise(PAGE.blocks) if block.language == "bash"]
LINE = (
    '{"custom_id": "r0", "body": {"model": "deepseek-ai/DeepSeek-V3", "messages": [{"role": "user", "content": "1"}]}}'
)


@pytest.fixture
def batch_id(client: SiliconFlowClient, emulator: Emulator, sums: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SILICONFLOW_API_KEY", emulator.api_key)
    monkeypatch.setenv("SILICONFLOW_BASE_URL", emulator.base_url)
    file = client.upload_file(BytesIO(sums(3)), filename="sums.jsonl")
    return client.create_batch(file.id, metadata={"airflow_task": "nightly/classify/manual__1/-1"}).id


@pytest.mark.parametrize(("example", "below"), EXAMPLES, ids=lambda block: block.text.split("\n")[0])
def test_examples_print_what_the_page_shows(
    example: Block,
    below: Block,
    batch_id: str,
    connection: str,
    clock: Any,
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requests.jsonl").write_text(f"{LINE}\n" * 2)
    clock.advance(200 if "download" in example.text else 50)
    (line,) = re.findall(r"^python -m siliconflow_provider (.*)$", example.text, re.MULTILINE)
    code = main(shlex.split(line.replace(ID, batch_id).replace("/tmp/", f"{tmp_path}/")))
    assert code == (1 if "is invalid" in below.text else 0)
    if below.language == "text":
        shown = capsys.readouterr().out.replace(batch_id, ID).replace(f"{tmp_path}/", "/tmp/")
        assert shown.replace(emulator.base_url.split("/")[2], "api.siliconflow.com") == below.text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_options_are_documented(command: Any) -> None:
    options = {flag for argument in command.arguments for flag in argument.flags if flag.startswith("-")}
    documented = set(COMMON)
    if "| option |" in PAGE.section(command.name):
        documented |= {name for row in PAGE.table(command.name) for name in names_in(row[0])}
    if command.name == "check":
        documented |= {name for row in PAGE.table("estimate") for name in names_in(row[0])}
        options |= {"--prices", "--tokenizer", "--mean-completion-tokens"}
    assert options | COMMON == documented


def test_common_options_are_documented() -> None:
    assert {names_in(row[0])[0] for row in PAGE.table("Connection")} == COMMON


def test_commands_are_documented() -> None:
    documented = [names_in(row[0])[0] for row in PAGE.table("Command line")]
    assert documented == [command.name for command in COMMANDS]


def test_keys_of_a_batch_are_documented(batch_id: str, client: SiliconFlowClient) -> None:
    documented = [name for row in PAGE.table("A batch as JSON") for name in names_in(row[0])]
    assert documented == list(document_of(client.get_batch(batch_id), client))


@pytest.mark.parametrize("command", ["account", "check", "download"])
def test_keys_of_other_json_are_documented(
    command: str, batch_id: str, clock: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.advance(200)
    (tmp_path / "a.jsonl").touch()
    arguments = {
        "account": [],
        "check": [str(tmp_path / "a.jsonl")],
        "download": [batch_id, "--output", str(tmp_path / "out")],
    }
    assert main([command, *arguments[command], "--json"]) == 0
    keys = re.findall(r'^ {2,4}"(\w+)":', capsys.readouterr().out, re.MULTILINE)
    (sentence,) = re.findall(r"With `--json`, the output .*?\.", PAGE.section(command), re.DOTALL)
    assert [name for name in names_in(sentence) if name != "--json"] == [key for key in keys if key in sentence]
