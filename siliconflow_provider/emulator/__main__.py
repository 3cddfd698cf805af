"""The command line: `python -m siliconflow_provider.emulator`."""

from __future__ import annotations

import argparse
import ipaddress
import json
import math
import shlex
import signal
import sys
import threading
from pathlib import Path

from siliconflow_provider.emulator.errors import EmulatorError, MissingExtraError

try:
    from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
except MissingExtraError as error:
    sys.exit(f"siliconflow emulator: {error}")

DEFAULT_PORT = 8900


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    options = _options(arguments)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    emulator = Emulator(options)
    try:
        emulator.start()
    except EmulatorError as error:
        print(f"siliconflow emulator: {error}", file=sys.stderr, flush=True)
        return 1
    print(_introduction(emulator), flush=True)
    stopped.wait()
    emulator.stop()
    print("stopped", flush=True)
    return 0


def _options(arguments: list[str] | None) -> EmulatorOptions:
    defaults = EmulatorOptions()
    parser = argparse.ArgumentParser(
        prog="python -m siliconflow_provider.emulator",
        description="A local SiliconFlow batch server: no account, no key, nothing is charged.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default=defaults.host, help="address to listen on")
    parser.add_argument("--port", type=port, default=DEFAULT_PORT, help="port of the API; 0 = a free one")
    parser.add_argument(
        "--storage-port", type=port, help="port of the signed URLs; 0 = a free one; not given = --port + 1"
    )
    parser.add_argument("--data-dir", type=Path, default=defaults.data_dir, help="where everything is kept")
    parser.add_argument("--api-key", default=defaults.api_key, help="the key that clients must send")
    for name, meaning in {
        "queue": "that a batch waits",
        "run": "that a batch runs",
        "finalize": "that writing the results takes",
        "cancel": "that cancelling takes",
        "url": "that a signed URL is good for",
    }.items():
        field = f"{name}_seconds"
        parser.add_argument(
            f"--{name}-seconds", type=seconds, default=getattr(defaults, field), help=f"seconds {meaning}"
        )
    parsed = parser.parse_args(arguments)
    if parsed.port == 65535 and parsed.storage_port is None:
        parser.error("there is no port after 65535: give --storage-port")
    return EmulatorOptions(**vars(parsed), print_requests=True)


def port(text: str) -> int:
    """A port number; the name is what argparse calls it in its errors."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return number


def seconds(text: str) -> float:
    """A length of time."""
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def _introduction(emulator: Emulator) -> str:
    options = emulator.options
    connection = {"conn_type": "siliconflow", "host": emulator.base_url, "password": emulator.api_key}
    lines = [
        f"SiliconFlow batch emulator on {emulator.base_url} (signed URLs on {emulator.storage_url})",
        "Connection for Airflow:",
        f"  export AIRFLOW_CONN_SILICONFLOW_DEFAULT={shlex.quote(json.dumps(connection))}",
        f"Data is kept in {emulator.data_dir.resolve()}; requests.log there lists the requests.",
        f"Batches queue {options.queue_seconds:g} s, run {options.run_seconds:g} s, finalize"
        f" {options.finalize_seconds:g} s; cancelling takes {options.cancel_seconds:g} s; signed URLs are"
        f" good for {options.url_seconds:g} s.",
    ]
    if not _is_loopback(options.host):
        lines.insert(0, f"WARNING: {options.host} is not a loopback address: other machines can reach this server.")
    return "\n".join([*lines, "Ctrl-C stops it."])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
