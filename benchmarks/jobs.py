"""Whole jobs through the emulator, the two passes over their files by themselves, and a job beside common-ai's.

Each job runs in a process of its own, and the emulator, whose batches take no time, in another; the memory is the most
that the job's process needed above the level after its imports. The disk is the most that its temporary directory took,
and the most that its output took, as multiples of the input's bytes: with the output on the same disk, on another one,
and in object storage. `jobs.py 100000` leaves larger ones out, `jobs.py disk 100000` measures the disk alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from peers import installed

SIZES = (12, 5_000, 5_001, 100_000, 1_000_000)
PASS_SIZES = (100_000, 1_000_000)
PART = 5_000
API_KEY = "sk-benchmark"
ROUNDS = 3
COLUMNS = {"seconds": min, "cpu": min, "mebibytes": max}
MODEL = "deepseek-ai/DeepSeek-V3"
TEXT = "The quick brown fox jumps over the lazy dog. " * 20
# Those in which OpenAI's client is at home; the provider takes them too.
FORMS = ("result-ids", "flat-upload", "error-objects", "openai-lines")


class TaskInstance:
    """What the operators use of a task instance."""

    dag_id, task_id, run_id, map_index, try_number, max_tries = "benchmark", "job", "run", -1, 1, 0

    def xcom_push(self, key: str, value: Any) -> None:
        """Forget it."""


def write_rows(path: Path, count: int) -> None:
    """Write rows of about 1 KB."""
    with path.open("w") as file:
        file.writelines(json.dumps({"id": f"r{i}", "text": f"{i} {TEXT}"}) + "\n" for i in range(count))


def write_requests(path: Path, count: int) -> None:
    """Write request lines of about 1 KB."""
    with path.open("w") as file:
        for i in range(count):
            body = {"model": MODEL, "messages": [{"role": "user", "content": f"{i} {TEXT[:840]}"}], "max_tokens": 64}
            line = {"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(line) + "\n")


def write_answers(path: Path, count: int) -> None:
    """Write answer lines of about 1 KB, those of each part in no order."""
    with path.open("w") as file:
        for first in range(0, count, PART):
            for i in random.Random(first).sample(range(first, min(first + PART, count)), min(PART, count - first)):
                message = {"role": "assistant", "content": f"{i} {TEXT[:640]}"}
                body = {
                    "id": f"chatcmpl-{i}", "object": "chat.completion", "created": 1741686000, "model": MODEL,
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 20, "completion_tokens": 120, "total_tokens": 140},
                }  # fmt: skip
                line = {"id": f"batch_req_{i}", "custom_id": f"r{i}", "response": {"body": body}, "error": None}
                file.write(json.dumps(line) + "\n")


def write_tables(directory: Path, count: int) -> None:
    """Write the rows of `rows.jsonl` as CSV and as Parquet."""
    import pyarrow
    from pyarrow import csv, parquet

    texts = [f"{i} {TEXT}" for i in range(count)]
    table = pyarrow.table({"id": [f"r{i}" for i in range(count)], "text": texts})
    csv.write_csv(table, directory / "rows.csv")
    parquet.write_table(table, directory / "rows.parquet", row_group_size=100_000)


# One job, in a process of its own


def our_operator(path: Path, output: Path, prompts: list[str] | None) -> Any:
    """Return the operator, with all imported that it needs."""
    for name in ("jobs.opening", "jobs.runner", "operators.identity", "triggers.batches"):
        import_module(f"siliconflow_provider.{name}")
    from siliconflow_provider.operators.inference import BatchInferenceOperator

    source = {"requests": prompts} if prompts else {"input_path": str(path), "prompt": "{text}", "id_column": "id"}
    return BatchInferenceOperator(task_id="job", output_path=str(output), model=MODEL, **source)


def peer_operator(path: Path, output: Path, prompts: list[str] | None) -> Any:
    """Return common-ai's operator, with all imported that it needs."""
    import_module("airflow.providers.common.ai.batch.openai")
    import_module("openai").OpenAI(api_key="sk-unused").close()
    from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator

    return LLMBatchOperator(
        task_id="job",
        requests=prompts or [],
        result_path=f"file://{output}",
        llm_conn_id="llm",
        model_id=f"openai:{MODEL}",
        deferrable=True,
    )


def run_job(make: Callable[[], Any]) -> dict[str, Any]:
    """Run a task to its end as Airflow does; what it defers to runs in line."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    async def only_event(trigger: Any) -> Any:
        (event,) = [each async for each in trigger.run()]
        return event.payload

    instance = TaskInstance()
    context = {"ti": instance, "task_instance": instance}
    try:
        return make().execute(context)
    except TaskDeferred as deferral:
        path, arguments = deferral.trigger.serialize()
        module, _, name = path.rpartition(".")
        event = asyncio.run(only_event(getattr(import_module(module), name)(**arguments)))
        return make().resume_execution(deferral.method_name, {"event": event}, context)


class Disk:
    """The most that two directories took, looked at all the time. A file that is in both counts for the output."""

    def __init__(self, temporary: Path, output: Path) -> None:
        self._directories = output, temporary
        self.peaks = [0, 0]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            seen: dict[int, int] = {}
            for number, directory in enumerate(self._directories):
                new = {each.st_ino: each.st_size for each in self._files(directory)}
                size = sum(size for inode, size in new.items() if inode not in seen)
                self.peaks[number] = max(self.peaks[number], size)
                seen |= new

    def _files(self, directory: Path) -> Iterator[os.stat_result]:
        for folder, _, names in os.walk(directory):
            for name in names:
                with suppress(FileNotFoundError):
                    yield Path(folder, name).stat()


def place_output(where: str) -> None:
    """Let the output be where it is not: on another disk, or in object storage."""
    if where == "another disk":

        def link(*_: object) -> None:
            raise OSError("another disk")

        os.link = link
    elif where == "object storage":
        for name in ("object_storage", "publishing"):
            import_module(f"siliconflow_provider.storage.{name}").is_local = lambda path: False
        # Such a storage has no directories.
        local = import_module("fsspec.implementations.local").LocalFileSystem
        local.auto_mkdir = property(lambda self: True, lambda self, value: None)


def mebibytes(field: str) -> float:
    """Return this process's memory now (`VmRSS`) or at its peak (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def job(kind: str, path: Path, output: Path) -> None:
    """Run one job and print its seconds, CPU seconds and MiB."""
    operator = {"ours": our_operator, "ours-prompts": our_operator, "peer": peer_operator}[kind]
    prompts = None if kind == "ours" else [json.loads(line)["text"] for line in path.open()]
    operator(path, output, prompts)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, used, started = mebibytes("VmRSS"), time.process_time(), time.perf_counter()
    disk = Disk(Path(tempfile.gettempdir()), output)
    # Watching the files takes CPU time, more for a job of many files.
    with disk if os.environ["BENCHMARK_OUTPUT"] else nullcontext():
        summary = run_job(lambda: operator(path, output, prompts))
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    with path.open("rb") as rows:
        assert summary["counts"]["succeeded"] == sum(1 for _ in rows)
    found = {"seconds": seconds, "cpu": cpu, "mebibytes": mebibytes("VmHWM") - before}
    size = path.stat().st_size
    print(json.dumps({**found, "output": disk.peaks[0] / size, "temporary": disk.peaks[1] / size}))


def emulate(directory: Path) -> None:
    """Be the emulator until the other end of the pipe is closed."""
    from siliconflow_provider.emulator.forms import Forms
    from siliconflow_provider.emulator.server import Emulator, EmulatorOptions

    at_once = {"queue_seconds": 0, "run_seconds": 0, "finalize_seconds": 0}
    options = EmulatorOptions(data_dir=directory, api_key=API_KEY, forms=Forms.named(FORMS), **at_once)
    with Emulator(options) as running:
        print(running.base_url, flush=True)
        sys.stdin.read()


@contextmanager
def emulator(directory: Path) -> Iterator[str]:
    """Run the emulator in a process of its own, and give its base URL."""
    command = [sys.executable, __file__, "emulate", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


def measure_job(kind: str, count: int, where: str = "") -> dict[str, Any]:
    """Return what a job of so many requests took.

    :param where: the output seems to be, for `place_output`
    """
    with tempfile.TemporaryDirectory() as name, emulator(Path(name, "emulator")) as url:
        directory = Path(name)
        (directory / "temporary").mkdir()
        write_rows(directory / "rows.jsonl", count)
        connection = {"host": url, "password": API_KEY}
        environment = os.environ | {
            "AIRFLOW_HOME": f"{name}/airflow",
            "TMPDIR": f"{name}/temporary",
            "BENCHMARK_OUTPUT": where,
            "AIRFLOW_CONN_SILICONFLOW_DEFAULT": json.dumps(connection | {"conn_type": "siliconflow"}),
            "AIRFLOW_CONN_LLM": json.dumps(connection | {"conn_type": "pydanticai"}),
        }
        command = [sys.executable, __file__, kind, str(directory / "rows.jsonl"), str(directory / "out")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        if kind != "peer":
            found["parts"] = len(json.loads((directory / "out" / "manifest.json").read_text())["batches"])
        return found


# The passes over a file by themselves


def passes(directory: Path) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    """Return what is done to each file, by its name."""
    import msgspec
    from pyarrow import csv, parquet

    from siliconflow_provider.inputs.request_builder import RequestBuilder
    from siliconflow_provider.inputs.request_lines import RequestLine
    from siliconflow_provider.outputs.answer_lines import AnswerLine

    def each_line(decode: Callable[[bytes], object]) -> Callable[[Path], object]:
        def read(path: Path) -> None:
            with path.open("rb") as lines:
                for line in lines:
                    decode(line)

        return read

    def read_all(batches: Iterable[object]) -> None:
        for _ in batches:
            pass

    requests, rows, answers = (directory / name for name in ("requests.jsonl", "rows.jsonl", "answers.jsonl"))
    in_csv, in_parquet = directory / "rows.csv", directory / "rows.parquet"
    builder = RequestBuilder(prompt="{text}", id_column="id", model=MODEL)
    return {
        "requests: json.loads": (requests, each_line(json.loads)),
        "requests: msgspec, typed": (requests, each_line(msgspec.json.Decoder(RequestLine).decode)),
        "requests: check and cut": (requests, lambda path: check_and_cut(path, RequestBuilder())),
        "rows: json.loads": (rows, each_line(json.loads)),
        "rows: check and cut": (rows, lambda path: check_and_cut(path, builder)),
        "CSV: pyarrow's reader": (in_csv, lambda path: read_all(csv.open_csv(path))),
        "CSV: check and cut": (in_csv, lambda path: check_and_cut(path, builder)),
        "Parquet: pyarrow's reader": (in_parquet, lambda path: read_all(parquet.ParquetFile(path).iter_batches())),
        "Parquet: check and cut": (in_parquet, lambda path: check_and_cut(path, builder)),
        "answers: json.loads": (answers, each_line(json.loads)),
        "answers: msgspec, typed": (answers, each_line(msgspec.json.Decoder(AnswerLine).decode)),
        "answers: merge": (answers, partial(merge, parts=parts_of(answers))),
    }


def check_and_cut(path: Path, builder: Any) -> None:
    """Read a job's source and write its requests."""
    from siliconflow_provider.inputs import items_of_file, prepare
    from siliconflow_provider.jsonl import read_chunks

    with path.open("rb") as file, tempfile.TemporaryFile() as requests, tempfile.TemporaryFile() as rows:
        items = items_of_file(path.name, lambda: read_chunks(file), lambda: file)
        prepare(items, builder, requests, rows, name=path.name)


def parts_of(path: Path) -> list[Any]:
    """Return the answers of each part as a part of the file."""
    from siliconflow_provider.inputs.parts import PartWriter

    with path.open("rb") as lines, Path(os.devnull).open("wb") as nowhere:
        writer = PartWriter(nowhere, most_lines=PART)
        for line in lines:
            writer.write(line)
        return writer.finish()


def merge(path: Path, parts: Sequence[Any]) -> None:
    """Collect the answers of each part, and write the results."""
    from siliconflow_provider.inputs.parts import FilePart
    from siliconflow_provider.jsonl import line_blocks, read_chunks
    from siliconflow_provider.outputs.result_store import ResultStore

    count = sum(part.lines for part in parts)
    with tempfile.TemporaryFile() as collected, tempfile.TemporaryFile() as results:
        answers = ResultStore(count, collected)
        for part in parts:
            indexes = {f"r{index}": index for index in range(part.first, part.first + part.lines)}
            with FilePart(path, part) as file:
                answers.add_file(line_blocks(read_chunks(file)), indexes, "batch_benchmark", 1, "output")
        answers.write(results, None)


def measure_passes(count: int) -> Iterator[tuple[str, float, float, float]]:
    """Yield each pass's name, MB, seconds and CPU seconds, the best of some rounds."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_requests(directory / "requests.jsonl", count)
        write_rows(directory / "rows.jsonl", count)
        write_tables(directory, count)
        write_answers(directory / "answers.jsonl", count)
        for title, (path, run) in passes(directory).items():
            found = []
            for _ in range(ROUNDS):
                started, used = time.perf_counter(), time.process_time()
                run(path)
                found.append((time.perf_counter() - started, time.process_time() - used))
            yield title, path.stat().st_size / 1e6, min(each[0] for each in found), min(each[1] for each in found)


def print_jobs(sizes: Sequence[int]) -> None:
    """Print what jobs of these sizes took."""
    print(f"{'requests':>9}{'parts':>7}{'wall s':>9}{'CPU s':>8}{'MiB':>8}{'CPU us each':>13}{'bytes each more':>17}")
    levels = {}
    for count in sizes:
        found = measure_job("ours", count)
        levels[count] = found["mebibytes"]
        more = (found["mebibytes"] - levels[PART + 1]) * 2**20 / count if PART + 1 in levels else 0
        print(
            f"{count:>9,}{found['parts']:>7}{found['seconds']:>9.1f}{found['cpu']:>8.1f}{found['mebibytes']:>8.1f}"
            f"{found['cpu'] / count * 1e6:>13.1f}{more if count > PART + 1 else 0:>17.1f}",
            flush=True,
        )


def print_disk(count: int) -> None:
    """Print how much disk a job took."""
    print(f"\n{f'{count:,} rows, times the input':<32}{'temporary':>11}{'output':>9}")
    for where in ("the same disk", "another disk", "object storage"):
        found = measure_job("ours", count, where)
        print(f"output on {where:<22}{found['temporary']:>11.1f}{found['output']:>9.1f}", flush=True)


def print_passes(sizes: Sequence[int]) -> None:
    """Print what the passes over files of these sizes took."""
    print(f"\n{'pass':<28}{'lines':>9}{'wall s':>8}{'MB/s':>7}{'CPU s':>8}{'MB/s':>7}{'CPU us each':>13}")
    for count in sizes:
        for title, size, wall, cpu in measure_passes(count):
            print(
                f"{title:<28}{count:>9,}{wall:>8.2f}{size / wall:>7.0f}{cpu:>8.2f}{size / cpu:>7.0f}"
                f"{cpu / count * 1e6:>13.2f}",
                flush=True,
            )


def print_comparison() -> None:
    """Print what one batch took with both providers, from the same list of prompts."""
    print(f"\n{f'{PART:,} prompts':<28}{'wall s':>8}{'CPU s':>8}{'MiB':>8}")
    for title, kind in (("LLMBatchOperator", "peer"), ("BatchInferenceOperator", "ours-prompts")):
        found = [measure_job(kind, PART) for _ in range(ROUNDS)]
        wall, cpu, memory = (pick(each[name] for each in found) for name, pick in COLUMNS.items())
        print(f"{title:<28}{wall:>8.2f}{cpu:>8.2f}{memory:>8.1f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["emulate"]:
        emulate(Path(sys.argv[2]))
    elif len(sys.argv) == 4:
        place_output(os.environ["BENCHMARK_OUTPUT"])
        job(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["disk"]:
        print_disk(int(sys.argv[2]))
    else:
        most = int(sys.argv[1]) if sys.argv[1:] else SIZES[-1]
        print_jobs([each for each in SIZES if each <= most])
        print_disk(min(most, SIZES[-2]))
        print_passes([each for each in PASS_SIZES if each <= most])
        if installed("common-ai"):
            print_comparison()
