from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.inputs.parts import FilePart, Part, PartWriter, ids_of_part
from siliconflow_provider.jobs.job import Round
from siliconflow_provider.jobs.request_files import RequestFiles, RequestsLostError

CONTENT = b"before\nwanted\nafter\n"
PART = Part(first=1, lines=1, offset=7, bytes=7, sha256=hashlib.sha256(b"wanted\n").hexdigest())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "requests.jsonl"
    found.write_bytes(CONTENT)
    return found


@pytest.mark.parametrize(
    ("seek", "size", "block", "position"),
    [
        ((0,), -1, b"wanted\n", 7),
        ((0,), 100, b"wanted\n", 7),
        ((0,), 0, b"", 0),
        ((0,), 3, b"wan", 3),
        ((3, 0), 3, b"ted", 6),
        ((-1, 2), 3, b"\n", 7),
        ((0, 2), -1, b"", 7),
        ((5, 2), -1, b"", 12),
        ((100,), 1, b"", 100),
    ],
)
def test_a_part_reads_like_a_file(path: Path, seek: tuple[int, ...], size: int, block: bytes, position: int) -> None:
    with FilePart(path, PART) as part:
        part.seek(*seek)
        assert (part.read(size), part.tell()) == (block, position)


def test_a_part_continues_at_its_position(path: Path) -> None:
    with FilePart(path, PART) as part:
        assert [part.read(4), part.seek(-1, 1), part.read(1), part.read(), part.read()] == [
            b"want", 3, b"t", b"ed\n", b"",
        ]  # fmt: skip


def test_a_part_is_hashed_and_closed(path: Path) -> None:
    with FilePart(path, PART) as part:
        assert hashlib.file_digest(part, "sha256").hexdigest() == PART.sha256
    with pytest.raises(ValueError, match="closed"):
        part.read()


def test_only_the_part_itself_is_uploaded(client: SiliconFlowClient, path: Path) -> None:
    with FilePart(path, PART) as part:
        uploaded = client.upload_file(part, filename="part.jsonl")
    with (path.parent / "back").open("w+b") as back:
        client.download(uploaded.id, back)
    assert (path.parent / "back").read_bytes() == b"wanted\n"


@pytest.fixture
def parts(tmp_path: Path, sums: Callable[[int], bytes]) -> list[Part]:
    """Write five requests to `tmp_path / "five.jsonl"`, and return its parts of two."""
    with (tmp_path / "five.jsonl").open("w+b") as file:
        writer = PartWriter(file, most_lines=2)
        for line in sums(5).splitlines(keepends=True):
            writer.write(line)
        return writer.finish()


def test_each_part_has_its_own_ids(tmp_path: Path, parts: list[Part]) -> None:
    found = [list(ids_of_part(tmp_path / "five.jsonl", part)) for part in parts]
    assert found == [["r0", "r1"], ["r2", "r3"], ["r4"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"r2", b"x2"),
        lambda content: content.replace(b"What is 3", b"What is 9"),
        lambda content: b"\n" + content,
        lambda content: content[:-60],
        lambda content: b"",
        lambda content: b"no JSON at all\n" * 99,
    ],
)
def test_changed_request_files_are_not_used(
    workspace: Callable[[], Any], tmp_path: Path, parts: list[Part], change: Callable[[bytes], bytes]
) -> None:
    """Answers would look unknown, and their requests would be resubmitted."""
    files = workspace()
    (tmp_path / "out" / "_siliconflow").mkdir(parents=True)
    (tmp_path / "out" / "_siliconflow" / "requests.jsonl").write_bytes(change((tmp_path / "five.jsonl").read_bytes()))
    with pytest.raises(RequestsLostError, match=r"requests\.jsonl was changed since the job was created: restore it"):
        RequestFiles(files).path(Round(1, parts, 3, 0))


@pytest.mark.parametrize(("number", "name"), [(1, "_siliconflow/requests.jsonl"), (2, "_siliconflow/round-2.jsonl")])
def test_each_round_has_a_file_of_requests(
    workspace: Callable[[], Any], tmp_path: Path, number: int, name: str
) -> None:
    files, planned = workspace(), Round(number, [PART], 3, 0)
    with pytest.raises(RequestsLostError, match=rf"out/{name} is missing: restore it, or start a new job in another"):
        RequestFiles(files).path(planned)
    (tmp_path / "out" / "_siliconflow").mkdir(parents=True)
    (tmp_path / "out" / name).write_bytes(CONTENT)
    assert RequestFiles(files).path(planned).read_bytes() == CONTENT
