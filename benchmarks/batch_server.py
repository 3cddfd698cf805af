"""The server of `triggers.py`: batches in the forms of SiliconFlow, OpenAI and Anthropic, each answer 100 ms late.

It does nothing but answer, in a process of its own. `/begin` starts anew with so many batches and says when each ends,
`/requests` says how many answers there were since.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

LATENCY = 0.1


class Account:
    """Batches that were created at once and end at random moments."""

    def __init__(self) -> None:
        self.created_at = 0.0
        self.ends: dict[str, float] = {}
        self.requests = 0

    def begin(self, number: int, seconds: float) -> dict[str, float]:
        """Have so many batches that end within so many seconds, and one that is over."""
        chance = random.Random(number)
        self.created_at, self.requests = time.time(), 0
        self.ends = {f"batch_{i:04}": self.created_at + chance.uniform(0, seconds) for i in range(number)}
        self.ends["batch_over"] = self.created_at
        return self.ends

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """Answer as the service that this path is of."""
        self.requests += 1
        parts = path.strip("/").split("/")
        if parts == ["v1", "batches"]:
            return self.page(query.get("after", [""])[0], int(query["limit"][0]))
        return self.message_batch(parts[-1]) if "messages" in parts else self.batch(parts[-1])

    def batch(self, batch_id: str) -> dict[str, Any]:
        """A batch as SiliconFlow and OpenAI show it."""
        created_at, end = int(self.created_at), self.ends[batch_id]
        is_over = time.time() >= end
        return {
            "id": batch_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": None,
            "input_file_id": "file-1",
            "completion_window": "24h",
            "status": "completed" if is_over else "in_progress",
            "output_file_id": f"file-{batch_id}" if is_over else None,
            "error_file_id": None,
            "created_at": created_at,
            "in_progress_at": created_at,
            "expires_at": created_at + 86400,
            "completed_at": int(end) if is_over else None,
            "request_counts": {"total": 5000, "completed": 5000 if is_over else 100, "failed": 0},
            "metadata": {
                "airflow_key": "0" * 64,
                "airflow_input": "1" * 64,
                "airflow_task": f"dag/task/run/{batch_id}",
            },
        }

    def page(self, after: str, limit: int) -> dict[str, Any]:
        """A page of the list, newest first."""
        newest_first = list(reversed(self.ends))
        start = newest_first.index(after) + 1 if after else 0
        page = newest_first[start : start + limit]
        has_more = start + limit < len(newest_first)
        return {"object": "list", "data": [self.batch(each) for each in page], "has_more": has_more}

    def message_batch(self, batch_id: str) -> dict[str, Any]:
        """A batch as Anthropic shows it."""
        is_over = time.time() >= self.ends[batch_id]
        return {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended" if is_over else "in_progress",
            "request_counts": {"processing": 0, "succeeded": 5000, "errored": 0, "canceled": 0, "expired": 0},
            "created_at": _iso(self.created_at),
            "expires_at": _iso(self.created_at + 86400),
            "ended_at": _iso(self.ends[batch_id]) if is_over else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": None,
        }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


async def serve() -> None:
    """Answer until the process is ended; prints the port."""
    account = Account()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                url = urlsplit(head.split(" ", 2)[1])
                query = parse_qs(url.query)
                if url.path == "/begin":
                    found: Any = account.begin(int(query["number"][0]), float(query["seconds"][0]))
                elif url.path == "/requests":
                    found = account.requests
                else:
                    await asyncio.sleep(LATENCY)
                    found = account.answer(url.path, query)
                body = json.dumps(found).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
