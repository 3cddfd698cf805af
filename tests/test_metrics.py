"""Metrics arrive at a StatsD server, each thing once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat import sdk

from siliconflow_provider import metrics
from siliconflow_provider.emulator.control import Control
from siliconflow_provider.exceptions import MissedSuccessRateError
from siliconflow_provider.operators.batches import CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from tests.docs.pages import names_in, page
from tests.trigger_runs import SINGLE

Received = Callable[[], dict[str, float]]
PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}}
TASK = "dag_id=nightly,task_id=create"
DAG = """
import pendulum
from airflow.providers.common.compat.sdk import dag
from siliconflow_provider.operators.inference import BatchInferenceOperator

@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1))
def measured():
    BatchInferenceOperator(
        task_id="ask", model="deepseek-ai/DeepSeek-V3", requests=["1 + 1", "2 + 1", "3 + 1"], prices={prices!r},
        output_path={path!r} + "/{{{{ ti.try_number }}}}",
    )

measured()
"""


@contextmanager
def restarted_stats(settings: dict[str, str]) -> Iterator[None]:
    """Let Airflow read these settings of its metrics, as a new process does; afterwards, let it read its own again."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", value)
        try:
            from airflow.sdk.observability import stats
            from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
        except ImportError:
            from airflow.metrics import statsd_logger
            from airflow.stats import Stats

            patch.setattr(type(Stats), "factory", statsd_logger.get_statsd_logger)
            patch.setattr(Stats, "instance", None)
            yield
        else:
            stats.initialize(factory=get_stats_factory(), export_legacy_names=True)
            yield
            patch.undo()
            stats.initialize(factory=get_stats_factory(), export_legacy_names=True)


@pytest.fixture
def received() -> Iterator[Received]:
    """Switch Airflow's metrics on. Return the sums of those of this provider, by name and tags."""
    datagrams: list[str] = []
    is_end = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def read() -> None:
            while (datagram := server.recv(65_536)) != b"stop":
                is_end.set() if datagram == b"end" else datagrams.append(datagram.decode())

        reader = threading.Thread(target=read)
        reader.start()
        host, port = server.getsockname()

        def sums() -> dict[str, float]:
            # All that was sent before has arrived when this has.
            metrics._sender.submit(partial(server.sendto, b"end", (host, port)))
            assert is_end.wait(5)
            is_end.clear()
            found: Counter[str] = Counter()
            for datagram in datagrams:
                name, _, value = datagram.partition(":")
                if name.startswith("airflow.siliconflow."):
                    found[name.removeprefix("airflow.siliconflow.")] += float(value.partition("|")[0])
            datagrams.clear()
            return dict(found)

        with restarted_stats({"ON": "True", "HOST": host, "PORT": str(port), "INFLUXDB_ENABLED": "True"}):
            yield sums
        server.sendto(b"stop", (host, port))
        reader.join()


def documented_names() -> set[str]:
    metrics_page = page("docs/reference/metrics.md")
    rows = [*metrics_page.table("Tasks"), *metrics_page.table("The triggerer")]
    return {name.removeprefix("siliconflow.") for row in rows for name in names_in(row[0])}


def names(found: dict[str, float]) -> set[str]:
    return {name.partition(",")[0] for name in found}


def make_job(path: Path, **arguments: Any) -> BatchInferenceOperator:
    usual = {"task_id": "create", "model": "deepseek-ai/DeepSeek-V3", "requests": ["1 + 1", "fail", "3 + 1"]}
    return BatchInferenceOperator(**{**usual, "output_path": str(path / "out"), **arguments})


def test_a_deferred_dag_counts_each_thing_once(
    received: Received, dags_folder: Path, load_dag_file: Callable[[str], ModuleType], connection: str, tmp_path: Path
) -> None:
    (dags_folder / "measured.py").write_text(DAG.format(prices=PRICES, path=str(tmp_path)))
    assert str(load_dag_file("measured.py").measured().test().state).endswith("success")
    found = received()
    polls = found.pop("polls,conn_id=siliconflow_default,kind=single")
    assert polls > 5
    tags = "dag_id=measured,task_id=ask"
    prompt, completion = found.pop(f"tokens,{tags},kind=prompt"), found.pop(f"tokens,{tags},kind=completion")
    assert found == {
        f"batches.created,{tags}": 1,
        f"batches.ended,{tags},status=completed": 1,
        f"batches.queued_duration,{tags}": 10_000,
        f"batches.running_duration,{tags}": 100_000,
        f"requests,{tags},status=succeeded": 3,
        f"cost,{tags},currency=CNY": prompt + 4 * completion,
        "waits.started,conn_id=siliconflow_default": 1,
        "waits.ended,conn_id=siliconflow_default,state=over": 1,
    }


def test_a_cleared_job_counts_only_new_things(
    received: Received, connection: str, control: Control, run: Any, context: Any, tmp_path: Path
) -> None:
    control.plan(failing={"custom_ids": ["request-000002"]}, times=2)
    with pytest.raises(MissedSuccessRateError):
        run(lambda: make_job(tmp_path))
    first = received()
    context["ti"].clear()
    run(lambda: make_job(tmp_path))
    second = received()
    assert (first[f"batches.created,{TASK}"], first[f"batches.ended,{TASK},status=completed"]) == (2, 2)
    assert (first[f"requests,{TASK},status=succeeded"], first[f"requests,{TASK},status=failed"]) == (2, 1)
    assert (second[f"batches.created,{TASK}"], second[f"batches.ended,{TASK},status=completed"]) == (1, 1)
    assert second[f"batches.resumed,{TASK}"] == 2
    assert {name: second[name] for name in second if name.startswith("requests")} == {
        f"requests,{TASK},status=succeeded": 1
    }


def test_single_steps_and_outages_have_documented_names(
    received: Received, connection: str, control: Control, run: Any, sums: Any, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(sums(4))
    file_id = run(lambda: UploadFileOperator(task_id="upload", file_path=str(tmp_path / "in.jsonl")))
    control.fault(SINGLE, status=503, times=12)
    make = lambda: CreateBatchOperator(task_id="create", input_file_id=file_id)  # noqa: E731
    batch_id = run(make)
    assert run(make) == batch_id
    download = {"task_id": "download", "batch_id": batch_id, "output_path": str(tmp_path / "out")}
    run(lambda: DownloadResultsOperator(**download))
    found = received()
    assert (found[f"batches.created,{TASK}"], found[f"batches.resumed,{TASK}"]) == (1, 1)
    assert found[f"requests,{TASK},status=succeeded"] == 4
    assert found["polls.failed,conn_id=siliconflow_default,kind=single,error=ServerError"] > 0
    assert names(found) == documented_names() - {"cost"}


def test_metrics_that_cannot_be_sent_fail_nothing(
    connection: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "Stats", None, raising=False)
    assert run(lambda: make_job(tmp_path))["counts"] == {"succeeded": 3}


def test_a_service_that_hangs_holds_up_nothing(
    connection: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_free, begun, ended = threading.Event(), [], []

    def hang(name: str, *_: Any, **__: Any) -> None:
        begun.append(name)
        is_free.wait(30)
        ended.append(name)

    monkeypatch.setattr(metrics, "_sender", metrics._Sender())
    monkeypatch.setattr(sdk, "Stats", SimpleNamespace(incr=hang, timing=hang), raising=False)
    assert run(lambda: make_job(tmp_path))["counts"] == {"succeeded": 3}
    assert (begun, ended) == (["siliconflow.batches.created"], [])
    is_free.set()
    metrics._sender.reset()


HANGING_SERVICE = """
import sys, threading, types
sys.modules["airflow.providers.common.compat.sdk"] = types.SimpleNamespace(
    Stats=types.SimpleNamespace(incr=lambda *_, **__: threading.Event().wait())
)
from siliconflow_provider import metrics
for _ in range(5_000):
    metrics.count_poll("c", "list", None)
print(metrics._sender._queue.qsize())
"""


def test_a_service_that_hangs_keeps_no_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGING_SERVICE], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(ended.stdout) <= metrics.MOST_QUEUED


def test_a_forked_process_sends_its_own_metrics(received: Received, context: Any) -> None:
    metrics.count_created(context)
    if (child := os.fork()) == 0:
        metrics.count_created(context)
        os._exit(0)
    os.waitpid(child, 0)
    assert received() == {f"batches.created,{TASK}": 2}
