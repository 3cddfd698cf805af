"""Requests, batches and checks that several tests of whole jobs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.emulator.control import Control

Infer = Callable[..., Any]
Run = Callable[..., Any]
Rows = Callable[[], list[dict[str, Any]]]


def sums(count: int, start: int = 0) -> list[str]:
    return [f"What is {number} + 1?" for number in range(start, start + count)]


def batches(client: SiliconFlowClient) -> list[Any]:
    return list(client.list_batches())


def contents(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["content"] for row in rows]


def statuses(rows: list[dict[str, Any]]) -> list[str]:
    return [row["status"] for row in rows]


def assert_nothing_was_bought_twice(control: Control, answered: int) -> None:
    executions = control.executions()
    assert (executions.distinct, executions.most) == (answered, 1)
