"""Progress bars."""

from __future__ import annotations

import io
from typing import Any

import pytest

from siliconflow_provider.cli.progress import progress_bar


class TerminalOutput(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = TerminalOutput()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("[red]a\x07.jsonl", 2_000) as advance:
        advance(2_000)
    shown = terminal.getvalue()
    # The name is neither markup nor a command of the terminal.
    assert r"[red]a\x07.jsonl" in shown
    assert "2.0/2.0 kB" in shown


def test_other_outputs_stay_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("a.jsonl", 2) as advance:
        advance(2)
    assert tuple(capsys.readouterr()) == ("", "")


def test_a_download_moves_the_bar(
    run: Any, create: Any, clock: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = create()
    clock.advance(200)
    monkeypatch.setenv("TERM", "xterm")
    terminal = TerminalOutput()
    monkeypatch.setattr("sys.stderr", terminal)
    assert run("download", batch.id, "--output", tmp_path / "out").code == 0
    assert f"batch {batch.id}" in terminal.getvalue()
    assert " kB" in terminal.getvalue()
