"""Any object of the service, and any trigger event, is read or rejected."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
import pendulum
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from siliconflow_provider.api.models import LONGEST_ID, Batch, File
from siliconflow_provider.api.service_texts import first_errors, is_printable
from siliconflow_provider.waiting.batch_wait import (
    BatchWait,
    describe_end,
    wait_ends,
)
from siliconflow_provider.waiting.events import from_event, to_event
from siliconflow_provider.waiting.progress import ProgressLog, describe_progress
from tests.bad_input.json_values import TEXTS, dumps, fields
from tests.bad_input.service_objects import BATCHES, FILES

NOW = pendulum.datetime(2025, 3, 11, 10)


def read_back(values: Any) -> Any:
    """Return a value as the client decodes it; skip the value if that fails."""
    from siliconflow_provider.api.lenient_json import decode_any

    try:
        return decode_any(dumps(values).encode())
    except msgspec.DecodeError:
        assume(False)


@given(BATCHES, FILES)
def test_an_object_is_read_or_has_no_id(batch_object: Any, file_object: Any) -> None:
    for kind, value in ((Batch, read_back(batch_object)), (File, read_back(file_object))):
        if isinstance(value, dict):
            try:
                read = kind.from_json(value)
            except KeyError:
                assert (
                    not isinstance(value.get("id"), (str, int))
                    or not str(value["id"]).strip()
                    or isinstance(value["id"], bool)
                    or not is_printable(str(value["id"]))
                    or len(str(value["id"])) > LONGEST_ID
                )
            else:
                assert isinstance(read.id, str)
                assert isinstance(repr(read), str)


@given(BATCHES)
def test_a_batch_survives_the_trigger_event(batch_object: Any) -> None:
    """A wait, the log messages and the trigger event accept any batch."""
    value = read_back(batch_object)
    assume(isinstance(value, dict))
    with suppress(KeyError):
        batch = Batch.from_json(value)
        wait = BatchWait(batch.id)
        wait.record_batch(batch)
        assert math.isfinite(wait.pause(NOW)) if wait.state(NOW) == "running" else True
        assert ProgressLog().next_log_lines([wait, wait], NOW)
        assert describe_progress(batch, NOW)
        assert describe_end(batch)
        assert json.loads(json.dumps(batch.timing.to_report()))
        ends = wait_ends([wait], NOW) or wait_ends([wait], pendulum.datetime(9999, 1, 1))
        assert ends is not None
        (end,) = from_event(json.loads(json.dumps(to_event(ends), allow_nan=False)))
        assert (end.batch_id, end.state, end.deadline) == (ends[0].batch_id, ends[0].state, ends[0].deadline)
        # The event has no metadata of the user, and long errors are cut.
        written = Batch.from_json({**value, "output_file_id": None, "error_file_id": None, "metadata": None})
        assert end.batch is not None
        assert replace(end.batch, metadata={}) == replace(written, errors=first_errors(written.errors))


WAITS = fields(
    batch_id=st.just("batch_1"),
    state=st.sampled_from(["over", "timeout", "error", "running"]),
    batch=st.none() | fields(id=st.just("batch_1"), status=st.sampled_from(["completed", "failed", "in_queue"])),
    error=st.none() | TEXTS,
    deadline=st.none() | TEXTS,
)


@given(fields(waits=st.lists(WAITS, max_size=2)))
def test_an_event_is_read_or_rejected(written: Any) -> None:
    event = read_back(written)
    try:
        ends = from_event(event)
    except ValueError:
        with pytest.raises(ValueError, match=r"^unexpected trigger event: .{0,900}$"):
            from_event(event)
    else:
        assert ends
        for end in ends:
            assert isinstance(end.batch_id, str)
            assert end.state in ("timeout", "error") or (end.batch is not None and end.batch.is_terminal)
