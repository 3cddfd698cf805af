"""The command line: `python -m siliconflow_provider.emulator`."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import signal
import sys
import threading
from decimal import Decimal, InvalidOperation
from pathlib import Path

from siliconflow_provider.emulator.errors import EmulatorError, MissingExtraError
from siliconflow_provider.emulator.forms import MEANINGS, Forms
from siliconflow_provider.emulator.web_pages import is_loopback

try:
    from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
except MissingExtraError as error:
    sys.exit(f"siliconflow emulator: {error}")

DEFAULT_PORT = 8900


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code."""
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
    parser = _parser(EmulatorOptions())
    parsed = vars(parser.parse_args(arguments))
    if parsed["port"] == 65535 and parsed["storage_port"] is None:
        parser.error("there is no port after 65535: give --storage-port")
    try:
        forms = Forms.named(parsed.pop("form"), parsed.pop("list_lag_seconds"))
    except EmulatorError as error:
        parser.error(str(error))
    return EmulatorOptions(**parsed, forms=forms, print_requests=True)


def _parser(defaults: EmulatorOptions) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m siliconflow_provider.emulator",
        usage="%(prog)s [options]",
        description="A local SiliconFlow batch server: no account, no key, nothing is charged.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    place = parser.add_argument_group("addresses and data")
    place.add_argument("--host", default=defaults.host, help="address to listen on (%(default)s)")
    place.add_argument("--port", type=port, default=DEFAULT_PORT, help="port of the API; 0: any free one (%(default)s)")
    place.add_argument("--storage-port", type=port, help="port of the signed URLs; 0: any free one (--port + 1)")
    place.add_argument("--data-dir", type=Path, default=defaults.data_dir, help="directory of all data (./%(default)s)")
    place.add_argument("--api-key", default=defaults.api_key, help="the key that clients must send (%(default)s)")
    place.add_argument(
        "--charge-balance",
        type=amount,
        default=defaults.charge_balance,
        metavar="AMOUNT",
        help="the account's charged balance; 0 refuses batches (%(default)s)",
    )
    place.add_argument(
        "--model",
        dest="models",
        action="append",
        metavar="NAME",
        help="a model that the account has, all others do not exist; repeatable (any)",
    )
    times = parser.add_argument_group("durations in seconds")
    for name, meaning in {
        "queue": "a batch waits in the queue",
        "run": "a batch runs",
        "finalize": "writing the results takes",
        "cancel": "cancelling takes",
        "url": "a signed URL is valid",
    }.items():
        default = getattr(defaults, f"{name}_seconds")
        times.add_argument(
            f"--{name}-seconds", type=seconds, default=default, metavar="S", help=f"{meaning} ({default:g})"
        )
    times.add_argument(
        "--list-lag-seconds", type=seconds, default=0.0, metavar="S", help="a new batch is missing from the list (0)"
    )
    tests = parser.add_argument_group("for tests")
    tests.add_argument("--form", type=form, action="append", default=[], help="answer in a form below; repeatable")
    tests.add_argument(
        "--control", action="store_true", help="offer the control interface at /control, as localhost only"
    )
    return parser


def _epilog() -> str:
    width = max(map(len, MEANINGS))
    return "\n".join(["forms:", *(f"  {name:<{width}}  {meaning}" for name, meaning in MEANINGS.items())])


def port(text: str) -> int:
    """Return a port number. argparse shows this function's name in its errors."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return number


def seconds(text: str) -> float:
    """Return a number of seconds."""
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return number


def amount(text: str) -> Decimal:
    """Return an amount of money."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError("must be a number") from None
    if not number.is_finite():
        raise argparse.ArgumentTypeError("must be a number")
    return number


def form(text: str) -> str:
    """Return the name of a response form."""
    if text not in MEANINGS:
        raise argparse.ArgumentTypeError(f"there is no form {text!r}; there are {', '.join(MEANINGS)}")
    return text


def _introduction(emulator: Emulator) -> str:
    options = emulator.options
    lines = [
        f"SiliconFlow batch emulator on {emulator.base_url} (signed URLs on {emulator.storage_url})",
        "Connection for Airflow:",
        f"  export AIRFLOW_CONN_SILICONFLOW_DEFAULT={shlex.quote(json.dumps(emulator.airflow_connection))}",
        f"Data is kept in {emulator.data_dir.resolve()}; requests.log there lists the requests.",
        f"Batches queue {options.queue_seconds:g} s, run {options.run_seconds:g} s, finalize"
        f" {options.finalize_seconds:g} s; cancelling takes {options.cancel_seconds:g} s; signed URLs are"
        f" valid for {options.url_seconds:g} s.",
    ]
    if options.control:
        lines.append(f"Control interface, which asks for no key: {emulator.control_url}/")
        if not is_loopback(options.host):
            lines.append("It answers requests whose Host is 127.0.0.1, localhost or [::1] only.")
    if not is_loopback(options.host):
        lines.insert(0, f"WARNING: {options.host} is not a loopback address: other machines can reach this server.")
    return "\n".join([*lines, "Ctrl-C stops it."])


if __name__ == "__main__":
    sys.exit(main())
