"""Operator that runs a whole job: it reads rows and writes one result row for each, in the same order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from siliconflow_provider import metrics
from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.api.service_texts import printable
from siliconflow_provider.exceptions import BatchWaitError
from siliconflow_provider.links import LINKS_TO_RESULTS, BatchesLink, ReportLink
from siliconflow_provider.operators.arguments import (
    as_path_text,
    as_path_texts,
    check_items_arguments,
    check_output_format,
    check_prices,
    check_rounds,
    check_source,
)
from siliconflow_provider.operators.base import BatchOperator
from siliconflow_provider.operators.final_errors import errors_of_job, final_if_refused
from siliconflow_provider.operators.outcome import Cancellation, Outcome, cancel_overdue
from siliconflow_provider.operators.reporting import ReportingMixin
from siliconflow_provider.operators.requests import check_items, first_of, items_at, wrap_requests
from siliconflow_provider.operators.waiting import as_timedelta
from siliconflow_provider.verdicts import describe_job, raise_for_ends
from siliconflow_provider.xcoms import push_xcom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from siliconflow_provider.api.models import Batch
    from siliconflow_provider.jobs import Finished, JobRunner
    from siliconflow_provider.waiting import WaitEnd


class BatchInferenceOperator(ReportingMixin, BatchOperator):
    """Run any number of requests as batches, wait for all of them, and write one result row for each, in order.

    Only requests without a good answer are resent. Returns a small summary of `manifest.json`. XCom `batch_ids` has the
    ids of the job's batches, each from its creation on. A retried or cleared task resumes its job.

    :param output_path: a directory for this task instance alone: a local path, or any URL of Airflow's object storage
    :param input_path: a file of rows, prompts, message lists or request lines (`.jsonl`, `.csv`, `.parquet`, texts also
        `.gz`), a directory, or a pattern with `*`. Give either `input_path` or `requests`
    :param requests: an iterable of rows, prompts, message lists or request lines, read once and item by item; a table,
        such as a DataFrame; or an XComArg
    :param prompt: the request's text for each row, or its content parts: `{column}` is replaced by the row's value
    :param messages_column: column with the messages of each row, or with its content parts. Give either `prompt` or
        `messages_column`
    :param id_column: column with the `custom_id` of each row; by default `request-000001`, `request-000002`, ...
    :param system_prompt: system message for requests that have none
    :param request_params: default parameters of requests, such as `{"max_tokens": 100}`
    :param model: default model of requests
    :param output_type: a Pydantic model, or any type that Pydantic's `TypeAdapter` accepts. The model is instructed
        to answer in this form, and answers are validated
    :param output_format: `"jsonl"`, `"parquet"` or `"csv"`: the job writes `results.jsonl`, `results.parquet` or
        `results.csv`. In the last two, the fields of `input` and `output` are columns
    :param limit: use only this many items, the first ones: to try a prompt, and to learn the cost of a row
    :param bad_items: with `"fail"`, an item that cannot be sent, such as a row with a missing value, fails the task
        before anything is submitted. With `"skip"` it gets a result row of status `rejected`, and the others are sent
    :param prices: of models per million tokens: a mapping, a JSON text, or the path of a JSON file; by default those of
        the connection
    :param max_cost: stop before the job may cost more, in the currency of the prices
    :param tokenizer: path of the model's `tokenizer.json`, to estimate tokens by it instead of a rule of thumb
    :param max_rounds: how often a request is sent at most; clearing the task allows as many again
    :param max_active_batches: how many of the job's batches may run at once; by default all. Each batch has up to 5,000
        requests
    :param min_success_rate: the task fails if a smaller share of requests has a good answer, after it has written the
        results. With None it fails only if no request has one
    :param deduplicate: send equal requests once; each of them gets a row
    :param reuse_from: the `output_path` of an earlier run, a list of them, or a pattern with `*`: a request that was
        answered there is not sent. A path without `*` must exist
    :param kwargs: see `BatchOperator`; `timeout` limits all rounds together
    """

    operator_extra_links = LINKS_TO_RESULTS
    template_fields: Sequence[str] = (
        "output_path",
        "input_path",
        "requests",
        "prompt",
        "messages_column",
        "id_column",
        "system_prompt",
        "request_params",
        "limit",
        "prices",
        "max_cost",
        "reuse_from",
        # Numbers, bools and fixed words, which no template changes: Airflow's UI shows them with the others.
        "output_format",
        "bad_items",
        "deduplicate",
        "max_rounds",
        "max_active_batches",
        "min_success_rate",
        *BatchOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("request_params", "prices", "metadata"), "json"
    )

    def __init__(
        self,
        *,
        output_path: str | os.PathLike[str],
        input_path: str | os.PathLike[str] | None = None,
        requests: Any = None,
        prompt: str | Sequence[Mapping[str, Any]] | None = None,
        messages_column: str | None = None,
        id_column: str | None = None,
        system_prompt: str | None = None,
        request_params: Mapping[str, Any] | None = None,
        output_type: Any = None,
        output_format: str = "jsonl",
        limit: int | str | None = None,
        bad_items: Literal["fail", "skip"] = "fail",
        prices: Any = None,
        max_cost: Any = None,
        tokenizer: str | os.PathLike[str] | None = None,
        max_rounds: int = 2,
        max_active_batches: int | None = None,
        min_success_rate: float | None = 1.0,
        deduplicate: bool = False,
        reuse_from: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_source(input_path, requests)
        check_rounds(max_rounds, max_active_batches, min_success_rate)
        check_items_arguments(prompt, messages_column, bad_items)
        check_prices(prices)
        self.output_path = as_path_text(output_path)
        self.input_path = as_path_text(input_path)
        self.requests = requests
        self.prompt = prompt
        self.messages_column = messages_column
        self.id_column = id_column
        self.system_prompt = system_prompt
        self.request_params = request_params
        self.output_type = output_type
        self.output_format = check_output_format(output_format)
        self.limit = limit
        self.bad_items: str = bad_items
        self.prices = prices
        self.max_cost = max_cost
        self.tokenizer = as_path_text(tokenizer)
        self.max_rounds = max_rounds
        self.max_active_batches = max_active_batches
        self.min_success_rate = min_success_rate
        self.deduplicate = deduplicate
        self.reuse_from = as_path_texts(reuse_from)
        # A template may render to nothing, and the rows have the same fields then.
        self._has_reuse_from = reuse_from is not None
        self._pushed_ids: list[str] = []

    @property
    def requests(self) -> Any:
        """Return the given requests, wrapped so that Airflow neither renders nor prints all of them."""
        return self._requests

    @requests.setter
    def requests(self, requests: Any) -> None:
        self._requests = wrap_requests(requests)

    @final_if_refused
    def execute(self, context: Context) -> dict[str, Any]:
        """Create or resume the job, and wait for its batches unless it is finished."""
        BatchesLink.persist(context, self)
        return self._advance(context)

    def waiting_ended(self, context: Context, ends: list[WaitEnd]) -> dict[str, Any]:
        """Continue the job after its batches have ended."""
        return self._advance(context, self._ended_batches(ends))

    def _ended_batches(self, ends: list[WaitEnd]) -> list[Batch]:
        raise_for_ends([end for end in ends if end.state == "error"], self.siliconflow_conn_id)
        return [end.batch for end in ends if end.batch is not None and end.batch.is_terminal]

    def source(self, context: Context) -> Iterable[Any]:
        """Return the items of a new job."""
        if self.input_path is None:
            return check_items(self.requests)
        return items_at(self.input_path)

    def _advance(self, context: Context, ended: Sequence[Batch] | None = None) -> dict[str, Any]:
        """Run the job until it has to wait, or is over.

        :param ended: batches that a wait has seen end; None if this attempt of the task has not waited yet
        """
        from siliconflow_provider.jobs import Finished
        from siliconflow_provider.operators.state_store import write_progress

        while True:
            with self._attempt(context, ended) as runner:
                state = runner.advance(as_timedelta(self.timeout), lambda: self._stop_if_killed(runner))
                write_progress(context, list(runner.batches.values()), self.hook.get_conn().now())
                if isinstance(state, Finished):
                    return self._finish(context, runner, state)
            wait = state.batch_ids, state.deadline, state.most_running
            if self.deferrable:
                self.defer_until(context, *wait)
            ended = self._ended_batches(self.wait_on_worker(context, *wait))

    @contextmanager
    def _attempt(self, context: Context, ended: Sequence[Batch] | None) -> Iterator[JobRunner]:
        from siliconflow_provider.jobs import JobRunner, ReuseSettings, Source, load_or_create_job
        from siliconflow_provider.operators.definition import check_input, request_builder_of, schema_of, settings_of
        from siliconflow_provider.operators.earlier_runs import find_earlier_runs
        from siliconflow_provider.storage import Workspace, storage_path, temporary_directory, temporary_disk

        client = self.hook.get_conn()
        schema = schema_of(self)
        settings = replace(
            settings_of(self, schema, self.submission(context, input_file_id="", round=1)),
            announce=partial(self._push_batch_ids, context),
        )
        if self.input_path is not None:
            check_input(self.input_path, storage_path(self.output_path), settings.output_format.results)
        with temporary_disk(), temporary_directory() as local, errors_of_job():
            files = Workspace(storage_path(self.output_path), local)
            find_runs = partial(find_earlier_runs, self.reuse_from, files.directory, local)
            job = load_or_create_job(
                client,
                files,
                settings.submission,
                settings.definition,
                lambda: Source(
                    printable(without_credentials(str(self.input_path or "requests"))),
                    first_of(self.source(context), self.limit),
                    request_builder_of(self, schema),
                    skips_bad_items=self.bad_items == "skip",
                ),
                ReuseSettings(
                    settings.validate,
                    self.deduplicate,
                    find_runs if self._has_reuse_from else None,
                    service=client.base_url,
                ),
                costs=settings.costs,
                output_format=settings.output_format,
                after_wait=ended is not None,
            )
            with closing(JobRunner.load(client, files, job, settings, ended or ())) as runner:
                if ended is None:
                    metrics.count_resumed(context, len(runner.opened.batches_of_parts()))
                try:
                    yield runner
                finally:
                    metrics.count_created(context, len(runner.job_batches.created))
                    for before, manifest in runner.results.publications:
                        metrics.count_results(context, before, manifest)

    def _push_batch_ids(self, context: Context, batch_ids: list[str]) -> None:
        if batch_ids != self._pushed_ids and push_xcom(context, "batch_ids", batch_ids):
            self._pushed_ids = batch_ids

    def _stop_if_killed(self, runner: JobRunner) -> None:
        running = [batch.id for batch in runner.running]
        if self._is_killed:
            if running:
                self._handle_kill(self.hook.get_conn(), running)
            raise BatchWaitError("task was killed; the next attempt will resume the job")

    def _finish(self, context: Context, runner: JobRunner, job: Finished) -> dict[str, Any]:
        """Log the outcome of the job and return its summary, or raise the error for it."""
        self.report_results(context, job.manifest)
        cancellation = cancel_overdue(self.hook.get_conn(), job.running) if self.cancel_on_timeout else Cancellation()
        summary = describe_job(
            job.manifest,
            job.running,
            None if runner.changes else runner.count_resent_when_cleared(),
            self.siliconflow_conn_id,
            cancelled=cancellation.cancelled,
            elsewhere=[batch.id for batch in runner.job_batches.find_other_running_batches()],
            attempt=runner.spending.bill_of_attempt(job.manifest),
        )
        changes = runner.describe_changes() if runner.changes else ""
        outcome = Outcome(job, cancellation, summary, changes, self.min_success_rate)
        error = outcome.error()
        if error is None or outcome.has_result(error):
            ReportLink.show(self, outcome.result)
        if error is None:
            self.log.info("%s", summary)
            return outcome.result
        if outcome.has_result(error):
            # For tasks that also run if this one fails: they have to know where the results are.
            push_xcom(context, "return_value", outcome.result)
        raise error
