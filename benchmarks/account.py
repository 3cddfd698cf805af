"""What an attempt needs to find its batches in an account of 20,000, by the forms of the service's list.

The account's batches were created over the last 30 days, the attempt's ten minutes ago. Metadata is shown in list
items, or by the single batch only: then one in twenty has a file that is named as our jobs name theirs, and may be the
attempt's. An attempt looks three times. It runs in a process of its own, and the service in another; the memory is the
most that it needed above the level after its imports.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

NUMBER = 20_000
OWN = 4
LOOKS = 3
OURS_NAMED = 20
DAY = 24 * 3600
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
PAGES = {"paged": 100, "pages of 20": 20, "not paged": None}
JOBS = {"a job of 10 minutes": 600, "a task of any age": None}


def batch(number: int, now: int) -> dict[str, Any]:
    """Return a batch of the account, the newest first."""
    is_own = number < OWN
    created_at = now - 600 if is_own else now - 700 - number * 30 * DAY // NUMBER
    is_named = is_own or number % OURS_NAMED == 0
    return {
        "id": f"batch_{number:010}",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": f"file-{number:010}",
        "completion_window": "24h",
        "status": "completed",
        "output_file_id": f"https://storage.example/output/{number}?signature={'0' * 64}",
        "error_file_id": None,
        "created_at": created_at,
        "in_progress_at": created_at + 10,
        "expires_at": created_at + DAY,
        "finalizing_at": created_at + 500,
        "completed_at": created_at + 510,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 5000, "completed": 5000, "failed": 0},
        "metadata": {
            "airflow_key": "0" * 64 if is_own else f"{number:064}",
            "airflow_run": "1" * 64,
            "airflow_input": "2" * 64,
            "airflow_max_tries": "2",
            "airflow_task": f"dag/task/run/{number}",
        },
        "file_name": f"{number:064x}.jsonl" if is_named else f"evals-{number}.jsonl",
    }


async def serve(page_size: int | None, *, shows_metadata: bool) -> None:
    """Be the service until the process is ended; prints the port."""
    now, requests = int(time.time()), 0
    batches = {each["id"]: each for each in (batch(number, now) for number in range(NUMBER))}
    order = {each: position for position, each in enumerate(batches, 1)}
    hidden = {"metadata"} if not shows_metadata else set()
    items = [json.dumps({name: each[name] for name in each if name not in hidden}) for each in batches.values()]

    def answer(path: str, query: dict[str, list[str]]) -> str:
        if path == "/requests":
            return str(requests)
        if path != "/v1/batches":
            return json.dumps(batches[path.rpartition("/")[2]])
        start = order[query["after"][0]] if "after" in query and page_size else 0
        page = items[start : start + page_size] if page_size else items
        return (
            f'{{"object": "list", "data": [{", ".join(page)}], "has_more": {json.dumps(start + len(page) < NUMBER)}}}'
        )

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        try:
            while True:
                url = urlsplit((await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)[1])
                requests += url.path != "/requests"
                body = answer(url.path, parse_qs(url.query)).encode()
                writer.write(HEAD % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def mebibytes(field: str) -> float:
    """Return this process's memory now (`VmRSS`) or at its peak (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def attempt(port: int, age: int | None) -> None:
    """Look for the attempt's batches, and print what it took."""
    import pendulum

    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.batches.finder import BatchFinder
    from siliconflow_provider.batches.records import MemoryRecords
    from siliconflow_provider.batches.submission import Submission
    from siliconflow_provider.jobs.job_batches import may_belong_to_job

    client = SiliconFlowClient("sk-benchmark", f"http://127.0.0.1:{port}/v1")
    since = None if age is None else pendulum.now("UTC").subtract(seconds=age)
    client.get_batch(f"batch_{0:010}")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, started = mebibytes("VmRSS"), time.perf_counter()
    finder = BatchFinder(client, Submission("0" * 64, ""), MemoryRecords(), may_be_ours=may_belong_to_job)
    for _ in range(LOOKS):
        found = finder.find_and_record(since)
        assert (len(found.batches), found.error) == (OWN, None), found.error
    print(json.dumps({"seconds": time.perf_counter() - started, "mebibytes": mebibytes("VmHWM") - before}))


def measure(pages: str, job: str, *, shows_metadata: bool) -> dict[str, Any]:
    """Return what an attempt took, with the requests that it sent."""
    import requests

    serving = [sys.executable, __file__, "serve", pages, str(int(shows_metadata))]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as service:
        try:
            port = int(service.stdout.readline())
            done = subprocess.run(
                [sys.executable, __file__, "attempt", str(port), job], capture_output=True, text=True, check=True
            )
            sent = int(requests.get(f"http://127.0.0.1:{port}/requests", timeout=60).text) - 1
        finally:
            service.terminate()
    return {**json.loads(done.stdout.splitlines()[-1]), "requests": sent}


def main() -> None:
    """Print the table."""
    print(f"{'list':<14}{'metadata in it':<16}{'looks for':<22}{'requests':>9}{'MiB':>7}{'seconds':>9}")
    for pages in PAGES:
        for shows_metadata in (True, False):
            for job in JOBS:
                found = measure(pages, job, shows_metadata=shows_metadata)
                print(
                    f"{pages:<14}{'yes' if shows_metadata else 'no':<16}{job:<22}{found['requests']:>9,}"
                    f"{found['mebibytes']:>7.1f}{found['seconds']:>9.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(PAGES[sys.argv[2]], shows_metadata=bool(int(sys.argv[3]))))
    elif sys.argv[1:2] == ["attempt"]:
        attempt(int(sys.argv[2]), JOBS[sys.argv[3]])
    else:
        main()
