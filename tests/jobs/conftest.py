from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.batches.submission import Submission
from siliconflow_provider.inputs.request_builder import RequestBuilder
from siliconflow_provider.jobs.opening import Source, load_or_create_job
from siliconflow_provider.jobs.run_states import Settings
from siliconflow_provider.jobs.runner import JobRunner
from siliconflow_provider.storage.workspace import Workspace


@pytest.fixture
def wanted() -> Submission:
    """The submission of the job."""
    return Submission(key="key-1", input_file_id="", run_key="run-1", label="dag/task/run/-1", round=1, max_tries=2)


@pytest.fixture
def attempt(
    client: SiliconFlowClient, workspace: Callable[[], Workspace], wanted: Submission
) -> Iterator[Callable[..., JobRunner]]:
    """Resume the job like another attempt; a new job asks for 0 + 1, 1 + 1, ..."""
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
            job = load_or_create_job(
                client, files, submission, {}, lambda: Source("requests", items, RequestBuilder(model="m"))
            )
            runner = JobRunner.load(client, files, job, Settings(submission, max_rounds, validate), ended)
            stack.callback(runner.close)
            return runner

        yield make
