from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pendulum
import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.jobs.opening import open_job
from siliconflow_provider.jobs.recipe import Recipe
from siliconflow_provider.jobs.runner import JobRunner, Settings
from siliconflow_provider.jobs.submission import Submission
from siliconflow_provider.storage import storage_path
from siliconflow_provider.workspace import Workspace

DAY = 24 * 3600
CREATED = 1_800_000_000


class ListingService:
    """An account whose batches, and what its list shows of them, are the test's to say."""

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, Any]] = {}
        self.hidden: tuple[str, ...] = ()
        self.hidden_of: dict[str, tuple[str, ...]] = {}
        self.shown_of: dict[str, dict[str, Any]] = {}
        self.unlisted: set[str] = set()
        self.files: list[dict[str, Any]] = []
        self.page_size: int | None = None
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer()

            def _answer(self) -> None:
                path, _, query = self.path.removeprefix("/v1").partition("?")
                outer.requests.append(f"{self.command} {path}")
                after = parse_qs(query).get("after", [None])[0]
                found = outer.answer(self.command, path, after)
                body = json.dumps(found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def has(self, **fields: Any) -> None:
        self.batches[fields["id"]] = {"status": "in_progress", "created_at": CREATED} | fields

    def answer(self, method: str, path: str, after: str | None = None) -> Any:
        if path.endswith("/cancel"):
            self.batches[path.split("/")[2]]["status"] = "cancelling"
            return self.batches[path.split("/")[2]]
        if method == "POST":
            return {"id": "batch_new", "status": "in_queue"}
        if path == "/files":
            return {"object": "list", "data": self.files}
        if path != "/batches":
            return self.batches.get(path.removeprefix("/batches/"))
        listed = [each for each in self.batches.values() if each["id"] not in self.unlisted]
        newest_first = sorted(listed, key=lambda each: -each["created_at"])
        shown = [self._shown(each) for each in newest_first]
        if self.page_size is None:
            return {"object": "list", "data": shown, "has_more": False}
        start = next((number for number, each in enumerate(shown, 1) if each["id"] == after), 0)
        page = shown[start : start + self.page_size]
        return {"object": "list", "data": page, "has_more": start + len(page) < len(shown)}

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        hidden = self.hidden + self.hidden_of.get(batch["id"], ())
        return {name: batch[name] for name in batch if name not in hidden} | self.shown_of.get(batch["id"], {})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[ListingService]:
    """An account of batches.

    `hidden` names fields that list items lack, `hidden_of` those of some, `shown_of` what the list shows of them
    instead, and `unlisted` batches that the list lacks.
    """
    running = ListingService()
    yield running
    running.stop()


@pytest.fixture
def account(service: ListingService, held_time: Any) -> SiliconFlowClient:
    """A client of `service`; time is held."""
    return SiliconFlowClient("sk-abc", service.base_url)


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """Makes a batch of a day that was created at a full hour; times are seconds after that."""

    def make(status: str = "in_progress", **fields: Any) -> Batch:
        moments = {name: CREATED + value for name, value in fields.items() if name.endswith("_at")}
        others = {name: value for name, value in fields.items() if not name.endswith("_at")}
        data = {"id": "batch_1", "completion_window": "24h", "created_at": CREATED, "expires_at": CREATED + DAY}
        return Batch.from_json({**data, "status": status, **moments, **others})

    return make


@pytest.fixture
def at() -> Callable[[float], pendulum.DateTime]:
    """Makes a moment: seconds after the creation of `batch`."""
    return lambda seconds: pendulum.from_timestamp(CREATED + seconds)


@pytest.fixture
def workspace(tmp_path: Path) -> Callable[[], Workspace]:
    """Makes the files of a job as another attempt has them: published in `tmp_path / "out"`, an empty local disk."""
    numbers = count(1)

    def make() -> Workspace:
        local = tmp_path / f"attempt-{next(numbers)}"
        local.mkdir()
        return Workspace(storage_path(tmp_path / "out"), local)

    return make


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str], None]:
    """Writes a file for users, as another attempt of the task has written it."""

    def write(name: str, content: str) -> None:
        written = tmp_path / "out" / "_siliconflow" / "written"
        written.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(content)
        (written / f"{name}.{len(content.encode())}.{hashlib.sha256(content.encode()).hexdigest()}").touch()

    return write


@pytest.fixture
def wanted() -> Submission:
    """Whose the job is."""
    return Submission(key="key-1", input_file_id="", run="run-1", label="dag/task/run/-1", round=1, max_tries=2)


@pytest.fixture
def attempt(
    client: SiliconFlowClient, workspace: Callable[[], Workspace], wanted: Submission
) -> Iterator[Callable[..., JobRunner]]:
    """Goes on with the job as another attempt does; a new one asks for 0 + 1, 1 + 1, ..."""
    with ExitStack() as stack:

        def make(
            requests: int = 3,
            *,
            submission: Submission = wanted,
            max_rounds: int = 2,
            ended: Any = (),
            validate: Any = None,
        ) -> JobRunner:
            items = [f"What is {i} + 1?" for i in range(requests)]
            files = workspace()
            job = open_job(client, files, submission, {}, lambda: ("requests", items, Recipe(model="m")))
            runner = JobRunner(client, files, job, Settings(submission, max_rounds, validate), ended)
            stack.callback(runner.close)
            return runner

        yield make
