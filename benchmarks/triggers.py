"""Waiting for 100 and for 1,000 batches: each provider's trigger in an event loop of its own, as in a triggerer.

The batches end at random moments within 30 s, and 10 s later the run is over. All triggers ask every 5 s; ours is also
shown with its own schedule. All ask one local server, which answers after 100 ms. Memory is by how much the process has
grown at most, after a first wait of the same kind. Then a day passes in virtual time: see `virtual_day.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import virtual_day
from peers import installed

WINDOW, REST, INTERVAL = 30.0, 10.0, 5.0
NUMBERS = (100, 1000)
TICK = 0.01
COLUMNS = (
    f"{'trigger':<26}{'waits':>6}{'lag p99':>9}{'max ms':>8}{'requests':>10}{'of due':>8}{'CPU s':>7}{'KiB/wait':>10}"
    f"{'end seen p50':>14}{'p99 s':>8}{'fired':>7}"
)


def maker(name: str) -> Callable[[str], Any]:
    """Return what makes a provider's trigger for a batch; its imports are done."""
    deadline = time.time() + 86400
    if name == "openai":
        from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

        return lambda batch_id: OpenAIBatchTrigger("openai", batch_id, INTERVAL, timeout=86400)
    if name == "anthropic":
        from airflow.providers.anthropic.triggers.batch import AnthropicBatchTrigger

        return lambda batch_id: AnthropicBatchTrigger("anthropic", batch_id, INTERVAL, deadline)
    if name == "common-ai":
        from airflow.providers.common.ai.triggers.llm_batch import LLMBatchTrigger

        return lambda batch_id: LLMBatchTrigger(
            llm_conn_id="openai",
            adapter="openai",
            batch_id=batch_id,
            poll_interval=int(INTERVAL),
            end_time=deadline,
            cancel_on_kill=False,
            cancel_on_timeout=False,
        )
    import pendulum

    from siliconflow_provider.triggers.batches import BatchTrigger

    interval, until = None if name == "own schedule" else INTERVAL, pendulum.from_timestamp(int(deadline))
    return lambda batch_id: BatchTrigger([batch_id], "siliconflow", until, interval)


def environment(port: int, home: str) -> dict[str, str]:
    """Return the environment of a run: connections to the server, and a home."""
    connections = {
        "openai": ("openai", f"http://127.0.0.1:{port}/v1"),
        "anthropic": ("anthropic", f"http://127.0.0.1:{port}"),
        "siliconflow": ("siliconflow", f"http://127.0.0.1:{port}/v1"),
    }
    return {
        **os.environ,
        "AIRFLOW_HOME": home,
        **{
            f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": kind, "host": host, "password": "sk-benchmark"})
            for name, (kind, host) in connections.items()
        },
    }


def resident() -> float:
    """Return this process's memory in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


class Run:
    """One provider's triggers, all on one event loop, for the whole window."""

    def __init__(self, name: str, number: int, port: int) -> None:
        self.make, self.number, self.address = maker(name), number, f"http://127.0.0.1:{port}"
        self.lags: list[float] = []
        self.fired: dict[str, float] = {}

    async def measure(self) -> dict[str, Any]:
        """Return what the window has brought."""
        self.control("/begin?number=0&seconds=1")
        await self.wait("batch_over")
        before, cpu, self.fired = resident(), time.process_time(), {}
        ends = self.control(f"/begin?number={self.number}&seconds={WINDOW}")
        del ends["batch_over"]
        started, most = time.time(), 0.0
        tasks = [asyncio.create_task(self.tick())]
        tasks.append(asyncio.create_task(self.start(list(ends), tasks)))
        while (left := started + WINDOW + REST - time.time()) > 0:
            await asyncio.sleep(min(left, 0.25))
            most = max(most, resident())
        cpu = time.process_time() - cpu
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {
            "lags": self.lags,
            "requests": self.control("/requests"),
            "due": sum(math.ceil((end - started) / INTERVAL) + 1 for end in ends.values()),
            "cpu": cpu,
            "memory": (most - before) / self.number,
            "fired": [self.fired[each] - end for each, end in ends.items() if each in self.fired],
            "unfired": [started + WINDOW + REST - end for each, end in ends.items() if each not in self.fired],
        }

    async def start(self, batch_ids: list[str], tasks: list[asyncio.Task[None]]) -> None:
        """Start one trigger after the other as a triggerer does, which leaves the loop to others in between."""
        for batch_id in batch_ids:
            tasks.append(asyncio.create_task(self.wait(batch_id)))
            await asyncio.sleep(0)

    async def wait(self, batch_id: str) -> None:
        """Consume a trigger as a triggerer does."""
        async for _ in self.make(batch_id).run():
            self.fired[batch_id] = time.time()
            return

    async def tick(self) -> None:
        """Note by how much the event loop is late."""
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(TICK)
            self.lags.append((time.perf_counter() - asked - TICK) * 1000)

    def control(self, path: str) -> Any:
        """Say something to the server, or ask it."""
        with urlopen(self.address + path) as answer:
            return json.load(answer)


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, math.ceil(len(values) * share) - 1)]


def seen_after(result: dict[str, Any], share: float) -> str:
    """Return a percentile of the seconds from a batch's end to its event; what never came is known to be later."""
    values = [(each, "") for each in result["fired"]] + [(each, "> ") for each in result["unfired"]]
    seconds, sign = sorted(values)[math.ceil(len(values) * share) - 1]
    return f"{sign}{seconds:.1f}"


def row(label: str, number: int, result: dict[str, Any], *, is_shared: bool) -> str:
    """Return a line of the table."""
    of_due = "-" if is_shared else f"{result['requests'] / result['due']:.0%}"
    return (
        f"{label:<26}{number:>6,}{percentile(result['lags'], 0.99):>9.0f}{max(result['lags']):>8.0f}"
        f"{result['requests']:>10,}{of_due:>8}{result['cpu']:>7.1f}{result['memory']:>10.0f}"
        f"{seen_after(result, 0.5):>14}{seen_after(result, 0.99):>8}{len(result['fired']):>7,}"
    )


@contextmanager
def server() -> Iterator[int]:
    """Run the server in a process of its own, and give its port."""
    command = [sys.executable, str(Path(__file__).with_name("batch_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def measure(name: str, number: int, port: int) -> dict[str, Any]:
    """Run a provider's triggers in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, name, str(number), str(port)]
        done = subprocess.run(
            command,
            env=environment(port, home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the tables."""
    labels = {name: f"{name} {version}" for name, version in installed().items()}
    labels |= {"siliconflow": "siliconflow", "own schedule": "siliconflow, own schedule"}
    print(f"\n{COLUMNS}")
    with server() as port:
        for number in NUMBERS:
            for name, label in labels.items():
                is_shared = label.startswith("siliconflow")
                print(row(label, number, measure(name, number, port), is_shared=is_shared), flush=True)
    print()
    virtual_day.main()


if __name__ == "__main__":
    if sys.argv[1:]:
        logging.disable(logging.INFO)
        print(json.dumps(asyncio.run(Run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])).measure())))
    else:
        main()
