"""An account whose batches and list a test decides, over HTTP."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from tests.servers import LocalServer, QuietHandler

CREATED = 1_800_000_000


class ListingService(LocalServer):
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

        class Handler(QuietHandler):
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

        super().__init__(Handler)
        self.base_url = f"{self.origin}/v1"

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
