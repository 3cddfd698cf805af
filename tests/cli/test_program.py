"""Errors, exit codes, outputs and start-up of all commands."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.cli import account, main
from siliconflow_provider.cli.commands import COMMANDS
from tests.listing_service import ListingService

KEY = "sk-abcdefghijklmnop"
SIGNED = "https://bucket.example.com/out.jsonl?Signature=abcdefghijkl"
STARTED = """
import sys
from siliconflow_provider.cli import main
codes = [main(line.split()) for line in sys.stdin.read().splitlines()]
print(codes, [name for name in sys.modules if name.split(".")[0] == "airflow"])
"""


@pytest.mark.usefixtures("settings")
def test_a_broken_pipe_ends_quietly(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["account"]) == 141
        # As Python does when it ends.
        stdout.flush()
    assert capsys.readouterr().err == ""


def test_ctrl_c_ends_quietly(run: Any, create: Any, types: Any, client: SiliconFlowClient) -> None:
    batch = create()
    types()
    printed = run("cancel", batch.id)
    assert (printed.code, printed.out) == (130, "")
    assert "Traceback" not in printed.err
    assert client.get_batch(batch.id).status == "in_queue"


@pytest.mark.usefixtures("listing_settings")
def test_no_command_prints_secrets(run: Any, service: ListingService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILICONFLOW_API_KEY", KEY)
    hostile = f"\x1b[2J {KEY} {SIGNED} \u202e"
    fields = {"file_name": hostile, "completion_window": hostile, "endpoint": hostile, "output_file_id": SIGNED}
    metadata = {hostile: hostile, "airflow_task": f"{hostile}/t/r/0"}
    service.has(id="batch_1", status=hostile, errors=[hostile], metadata=metadata, **fields)
    service.batches["/user/info"] = {"id": "/user/info", "status": hostile, "balance": hostile}
    service.unlisted.add("/user/info")
    for arguments in (["batches"], ["show", "batch_1"], ["account"], ["cancel", "batch_1", "--yes"]):
        for options in ([], ["--json"]):
            printed = run(*arguments, *options)
            assert printed.code == 0
            text = printed.out + printed.err
            assert [part for part in (KEY, "abcdefghijkl", "\x1b", "\u202e") if part in text] == []


@pytest.mark.usefixtures("settings")
def test_unexpected_errors_are_sentences(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILICONFLOW_API_KEY", "sk-emulator")

    def fail(value: object) -> str:
        raise RuntimeError(f"sk-emulator \x1b[2J {SIGNED}")

    monkeypatch.setattr(account, "json_text", fail)
    printed = run("account", "--json")
    expected = "unexpected RuntimeError: *** \\x1b[2J https://bucket.example.com/out.jsonl?..."
    assert printed == (2, "", f"python -m siliconflow_provider account: {expected}\n")


@pytest.mark.usefixtures("settings")
def test_stray_output_goes_to_stderr(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_account(client: SiliconFlowClient) -> Any:
        print("printed by a library")
        library = logging.getLogger("a_library")
        library.setLevel(logging.INFO)
        assert not library.isEnabledFor(logging.INFO)
        logging.getLogger("siliconflow_provider.api").warning("will retry")
        return original(client)

    original = SiliconFlowClient.get_account
    monkeypatch.setattr(SiliconFlowClient, "get_account", get_account)
    printed = run("account", "--json")
    assert printed.json["status"] == "normal"
    assert printed.err == "printed by a library\nwill retry\n"


@pytest.mark.usefixtures("listing_settings")
def test_texts_fit_the_outputs_encoding(service: ListingService, monkeypatch: pytest.MonkeyPatch) -> None:
    service.has(id="batch_1", metadata={"note": "\u4e2d"})
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["show", "batch_1"]) == 0
    assert b"metadata note  \\u4e2d" in stdout.buffer.getvalue()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_describes_each_command(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command.name, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert (ended.value.code, command.summary[1:] in shown) == (0, True)


def test_a_key_alone_imports_no_airflow(create: Any, requests: Path, emulator: Any) -> None:
    lines = [
        "account",
        "batches --limit 1",
        f"show {create().id}",
        f"cancel {create().id} --yes",
        f"check {requests}",
        f"estimate {requests}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", STARTED], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 0] []"
