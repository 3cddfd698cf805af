"""The command line, in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator import __main__ as command_line
from siliconflow_provider.emulator.forms import MEANINGS

COMMAND = [sys.executable, "-m", "siliconflow_provider.emulator"]
AUTHORIZED = {"Authorization": "Bearer sk-emulator"}


@contextmanager
def running(data_dir: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, what it printed at its start, and the base URL in that."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--data-dir", str(data_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    try:
        for text in process.stdout:
            printed += text
            if text.startswith("Ctrl-C"):
                break
        yield process, printed, re.findall(r"http://[^/]+/v1", printed)[0]
    finally:
        process.kill()
        process.communicate()


def test_the_start_says_what_to_do_and_the_end_is_clean(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--queue-seconds", "0.5") as (process, printed, base_url):
        (exported,) = re.findall(r"export AIRFLOW_CONN_SILICONFLOW_DEFAULT='(.*)'", printed)
        assert json.loads(exported) == {
            "conn_type": "siliconflow",
            "host": base_url,
            "password": "sk-emulator",
            "extra": {"deployment": "emulator"},
        }
        assert str(tmp_path / "data") in printed
        assert "queue 0.5 s, run 5 s, finalize 1 s" in printed
        assert "WARNING" not in printed
        assert requests.get(base_url + "/files?purpose=batch", headers=AUTHORIZED, timeout=10).status_code == 200
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=5)
    assert (process.returncode, errors) == (0, "")
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /v1/files\S* 200 \d+ ms\nstopped\n", output)


def test_a_killed_process_goes_on_where_it_was(tmp_path: Path, sums: Callable[[int], bytes]) -> None:
    timings = ["--queue-seconds", "0", "--run-seconds", "0", "--finalize-seconds", "0", "--control"]
    with running(tmp_path, *timings) as (process, _, base_url):
        uploaded = requests.post(
            base_url + "/files",
            data={"purpose": "batch"},
            files={"file": ("a.jsonl", sums(3))},
            headers=AUTHORIZED,
            timeout=10,
        ).json()
        body = {
            "input_file_id": uploaded["data"]["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        created = requests.post(base_url + "/batches", json=body, headers=AUTHORIZED, timeout=10).json()
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    with running(tmp_path, *timings) as (process, _, base_url):
        batch = requests.get(f"{base_url}/batches/{created['id']}", headers=AUTHORIZED, timeout=10).json()
        assert batch["status"] == "completed"
        assert len(requests.get(batch["output_file_id"], timeout=10).content.splitlines()) == 3
        executed = requests.get(base_url.replace("/v1", "/control/executions"), timeout=10).json()
        assert executed == {"total": 3, "distinct": 3, "most": 1}
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=5)
    assert (process.returncode, errors) == (0, "")


def test_models_may_be_repeated() -> None:
    assert command_line._options(["--model", "a", "--model", "b"]).models == ["a", "b"]
    assert command_line._options([]).models is None


def test_a_taken_port_is_one_sentence_and_exit_code_1(tmp_path: Path, capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert command_line.main(["--port", port, "--data-dir", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"port {port}" in captured.err
    assert "--port" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "x"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--port", "65535"],
        ["--queue-seconds", "-1"],
        ["--run-seconds", "nan"],
        ["--cancel-seconds", "soon"],
        ["--nonsense"],
        ["--form", "nonsense"],
        ["--form", "wrapped-file-list", "--form", "nested-file-list"],
        ["--list-lag-seconds", "-1"],
        ["--charge-balance", "much"],
        ["--charge-balance", "nan"],
    ],
)
def test_bad_arguments_are_exit_code_2(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_unknown_form_is_named_with_those_that_there_are(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["--form", "result-id"])
    assert "there is no form 'result-id'; there are result-ids, flat-upload," in capsys.readouterr().err


def test_the_help_names_every_form_and_fits_a_terminal(capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["--help"])
    page = capsys.readouterr().out
    assert caught.value.code == 0
    assert [name for name in MEANINGS if f"\n  {name} " not in page] == []
    assert max(map(len, page.splitlines())) <= 100


def test_forms_and_control_are_offered_by_option(tmp_path: Path) -> None:
    arguments = ["--control", "--form", "flat-upload", "--form", "wrapped-file-list", "--list-lag-seconds", "3"]
    with running(tmp_path, *arguments) as (_, printed, base_url):
        (control_url,) = re.findall(r"Control interface, which asks for no key: (\S+)/\n", printed)
        assert requests.get(control_url + "/clock", timeout=10).json()["held"] is False
        uploaded = requests.post(
            base_url + "/files",
            data={"purpose": "batch"},
            files={"file": ("a.jsonl", b"{}\n")},
            headers=AUTHORIZED,
            timeout=10,
        ).json()
        listed = requests.get(base_url + "/files?purpose=batch", headers=AUTHORIZED, timeout=10).json()
        assert [item["id"] for item in listed["data"]] == [uploaded["id"]]
        assert listed["code"] == 20000


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("10.0.0.1", False)],
)
def test_only_loopback_hosts_go_without_a_warning(host: str, loopback: bool) -> None:
    assert command_line.is_loopback(host) == loopback


def test_another_host_is_warned_of(tmp_path: Path) -> None:
    with running(tmp_path, "--host", "0.0.0.0", "--control") as (_, printed, base_url):
        assert "WARNING: 0.0.0.0 is not a loopback address" in printed
        assert "It answers requests whose Host is 127.0.0.1, localhost or [::1] only." in printed
        assert base_url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("missing", ["fastapi", "python_multipart", "starlette", "uvicorn"])
def test_without_its_extra_it_says_what_to_install(missing: str) -> None:
    program = (
        f"import runpy, sys; sys.modules[{missing!r}] = None; "
        "runpy.run_module('siliconflow_provider.emulator', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        f"siliconflow emulator: the emulator needs {missing}, which is not installed:"
        " pip install 'airflow-provider-siliconflow[emulator]'\n"
    )
