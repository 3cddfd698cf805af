"""A component as a process, with all that descends from it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil


class Component:
    """One started process and its descendants, wherever they moved: Airflow gives tasks process groups of their
    own, but they stay in the session that is made here.

    :param log: a file that gets what the process prints, after what is there
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.command, self.log_path = name, command, log
        self._log_start = log.stat().st_size if log.exists() else 0
        self.started_at = datetime.now(UTC)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it has printed since its start."""
        with self.log_path.open("rb") as printed:
            printed.seek(self._log_start)
            return printed.read().decode(errors="replace")

    def is_running(self) -> bool:
        """Whether its main process lives; a stopped one does."""
        return self.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Every living process of its session, the main one first."""
        return [each for each in psutil.process_iter() if self._owns(each)]

    def signal(self, number: signal.Signals, *, descendants: bool = True) -> None:
        """Send a signal to its processes, or to the main one alone."""
        if not descendants:
            self.process.send_signal(number)
            return
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def kill(self, *, descendants: bool = True) -> None:
        """SIGKILL, and return when nothing is left of it."""
        self.signal(signal.SIGKILL, descendants=descendants)
        self.process.wait()
        while descendants and self.processes():  # what was forked meanwhile
            self.signal(signal.SIGKILL)

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            return False
