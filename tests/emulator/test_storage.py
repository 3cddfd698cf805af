"""The second origin: signed URLs of result files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
import requests

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions


@pytest.fixture
def batch_id(api: Any, clock: Any, sums: Callable[[int], bytes]) -> str:
    """Return a completed batch."""
    created: str = api.create(sums(3))
    clock.advance(200)
    return created


@pytest.fixture
def url(api: Any, batch_id: str) -> str:
    reference: str = api.batch(batch_id)["output_file_id"]
    return reference


def refusal(url: str, **headers: str) -> tuple[int, str | None]:
    answer = requests.get(url, headers=headers, timeout=10)
    assert answer.headers["Content-Type"].startswith("application/xml")
    return answer.status_code, ElementTree.fromstring(answer.content).findtext("Code")


def test_signed_url_needs_no_key(emulator: Emulator, url: str) -> None:
    assert url.startswith(f"{emulator.storage_url}/results/file-")
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_byte_range_is_served(url: str) -> None:
    whole = requests.get(url, timeout=10).content
    part = requests.get(url, headers={"Range": "bytes=10-"}, timeout=10)
    assert (part.status_code, part.content) == (206, whole[10:])
    assert part.headers["Content-Range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"


def test_request_with_a_key_is_refused(url: str) -> None:
    assert refusal(url, Authorization="Bearer sk-emulator") == (400, "InvalidArgument")


def test_expired_url_is_replaced_by_the_next_poll(api: Any, clock: Any, batch_id: str, url: str) -> None:
    clock.advance(59)
    assert requests.get(url, timeout=10).status_code == 200
    clock.advance(1)
    assert refusal(url) == (403, "AccessDenied")
    assert requests.get(api.batch(batch_id)["output_file_id"], timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [("Signature=", "Signature=0"), ("Expires=1", "Expires=2"), ("?", "?x="), ("/results/", "/results/x")],
)
def test_changed_url_is_refused(url: str, old: str, new: str) -> None:
    assert refusal(url.replace(old, new)) == (403, "SignatureDoesNotMatch")


def test_url_without_a_signature_is_refused(url: str) -> None:
    assert refusal(url.split("?")[0]) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("path", ["/", "/v1/files", "/results"])
def test_other_paths_are_404(idle_emulator: Emulator, path: str) -> None:
    assert refusal(idle_emulator.storage_url + path) == (404, "NoSuchKey")


def test_results_older_than_30_days_are_deleted(api: Any, clock: Any, batch_id: str, url: str) -> None:
    clock.advance(30 * 24 * 3600)
    assert refusal(api.batch(batch_id)["output_file_id"]) == (404, "NoSuchKey")


def test_urls_survive_a_restart(
    options: EmulatorOptions, clock: Any, new_api: Any, sums: Callable[[int], bytes]
) -> None:
    with Emulator(options, clock=clock) as first:
        api = new_api(first)
        batch_id = api.create(sums(1))
        clock.advance(200)
        url = api.batch(batch_id)["output_file_id"]
        port = int(first.storage_url.rpartition(":")[2])
    with Emulator(replace(options, storage_port=port), clock=clock):
        assert requests.get(url, timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [("emulator.test:8900", "emulator.test"), ("[::1]:8900", "[::1]"), ("[", "127.0.0.1"), ("", "127.0.0.1")],
)
def test_urls_have_the_host_of_the_request(api: Any, emulator: Emulator, batch_id: str, host: str, origin: str) -> None:
    batch = api.call("GET", f"/batches/{batch_id}", headers={"Host": host}).json()
    port = emulator.storage_url.rpartition(":")[2]
    assert batch["output_file_id"].startswith(f"http://{origin}:{port}/results/")
