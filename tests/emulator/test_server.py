from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from siliconflow_provider.emulator.errors import EmulatorError
from siliconflow_provider.emulator.server import Emulator, EmulatorOptions


def test_both_origins_answer_after_start(emulator: Emulator) -> None:
    assert requests.get(emulator.base_url + "/files?purpose=batch", timeout=10).status_code == 401
    assert requests.get(emulator.storage_url, timeout=10).status_code == 404


def test_nothing_answers_after_stop(options: EmulatorOptions) -> None:
    emulator = Emulator(options)
    emulator.start()
    emulator.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(emulator.base_url + "/files?purpose=batch", timeout=10)
    emulator.stop()


def test_emulator_can_be_restarted(
    options: EmulatorOptions, clock: Any, new_api: Any, sums: Callable[[int], bytes]
) -> None:
    emulator = Emulator(options, clock=clock)
    with emulator:
        batch_id = new_api(emulator).create(sums(2))
    clock.advance(60)
    with emulator:
        assert new_api(emulator).batch(batch_id)["request_counts"]["completed"] == 1


def test_batch_keeps_its_timings_after_restart(
    options: EmulatorOptions, clock: Any, new_api: Any, sums: Callable[[int], bytes]
) -> None:
    with Emulator(options, clock=clock) as first:
        batch_id = new_api(first).create(sums(2))
    clock.advance(60)
    with Emulator(replace(options, queue_seconds=1000), clock=clock) as second:
        assert new_api(second).batch(batch_id)["status"] == "in_progress"


def test_two_emulators_run_side_by_side(tmp_path: Path, clock: Any, new_api: Any) -> None:
    with (
        Emulator(EmulatorOptions(tmp_path / "a", api_key="sk-a"), clock=clock) as first,
        Emulator(EmulatorOptions(tmp_path / "b", api_key="sk-b"), clock=clock) as second,
    ):
        new_api(first).upload(b"{}\n")
        assert new_api(second).call("GET", "/files?purpose=batch").json()["data"] == []


@pytest.mark.parametrize("option", ["port", "storage_port"])
def test_used_port_is_named(options: EmulatorOptions, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorError, match=f"{port}.*--{option.replace('_', '-')}"):
            Emulator(replace(options, **{option: port})).start()


def test_invalid_host_is_named(options: EmulatorOptions) -> None:
    with pytest.raises(EmulatorError, match=r"192\.0\.2\.1.*--host"):
        Emulator(replace(options, host="192.0.2.1")).start()


def test_unusable_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmulatorError, match="--data-dir"):
        Emulator(EmulatorOptions(tmp_path / "file")).start()


def test_emulator_stops_during_an_upload(emulator: Emulator) -> None:
    port = int(emulator.base_url.removesuffix("/v1").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-emulator\r\n"
            b"Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: 1000\r\n\r\n--cut\r\n"
        )
        emulator.stop()


def test_leftovers_of_a_killed_process_are_removed(options: EmulatorOptions) -> None:
    left = options.data_dir / "files" / "unfinished" / "upload-x"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    with Emulator(options):
        assert not left.exists()


def test_emulator_does_not_import_airflow_or_provider() -> None:
    program = (
        "import sys, siliconflow_provider.emulator.__main__; "
        "print([name for name in sys.modules if name.split('.')[0] == 'airflow' or "
        "name.startswith('siliconflow_provider.') "
        "and not name.startswith('siliconflow_provider.emulator')])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_responses_have_the_emulators_date(emulator: Emulator, clock: Any) -> None:
    clock.advance(0.75)
    answer = requests.get(f"{emulator.base_url}/batches", timeout=5)
    assert answer.headers["Date"] == "Fri, 15 Jan 2027 08:00:01 GMT"
