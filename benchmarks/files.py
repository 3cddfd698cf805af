"""Files of 1 GB up and down through the emulator: seconds, MB/s, and MiB above the client's level after import.

The emulator runs in a process of its own, so that the memory is the client's alone.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from siliconflow_provider.api.client import SiliconFlowClient

LINE = b'{"custom_id": "%07d", "body": {"messages": [{"role": "user", "content": "%s"}]}}\n'
SIZE = 1_000_000_000


def write_file(path: Path) -> None:
    """Write 1 GB of lines of about 1 KB."""
    with path.open("wb") as file:
        number = 0
        while file.tell() < SIZE:
            file.write(LINE % (number, b"x" * 930))
            number += 1
        file.truncate(SIZE)


def peak_mebibytes() -> float:
    """Return the most memory that this process has used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(name: str, action: Callable[[], object]) -> None:
    """Run one transfer and print its row."""
    before, started = peak_mebibytes(), time.perf_counter()
    action()
    seconds = time.perf_counter() - started
    print(f"{name:<10}{seconds:>8.1f}{SIZE / seconds / 1e6:>8.0f}{peak_mebibytes() - before:>18.1f}", flush=True)


def main() -> None:
    """Start the emulator, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_file(directory / "requests.jsonl")
        command = [sys.executable, "-m", "siliconflow_provider.emulator", "--port", "0", "--data-dir", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
            try:
                base_url = emulator.stdout.readline().split(" on ")[1].split()[0]
                client = SiliconFlowClient("sk-emulator", base_url)
                client.list_files()
                print(f"{'1 GB':<10}{'s':>8}{'MB/s':>8}{'MiB above start':>18}")
                file_ids: list[str] = []
                report("upload", lambda: file_ids.append(client.upload_file(directory / "requests.jsonl").id))
                with (directory / "back.jsonl").open("wb") as back:
                    report("download", lambda: client.download(file_ids[0], back))
            finally:
                emulator.terminate()
                emulator.wait()


if __name__ == "__main__":
    main()
