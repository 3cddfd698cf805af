"""Turn the arguments of an inference task into what its job needs: request builder, output schema, definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from airflow.exceptions import AirflowOptionalProviderFeatureException

from siliconflow_provider.api.durations import completion_window_text
from siliconflow_provider.api.redaction import without_credentials
from siliconflow_provider.exceptions import InvalidArgumentError, OutputPathError
from siliconflow_provider.hooks.siliconflow import content_of
from siliconflow_provider.inputs import RequestBuilder
from siliconflow_provider.job_directory import INTERNAL, MANIFEST
from siliconflow_provider.jobs import BAD_ITEMS, CONNECTION, CostSettings, Settings, fingerprint
from siliconflow_provider.operators.arguments import as_amount, as_limit, as_request_params, check_prompt, check_text
from siliconflow_provider.operators.final_errors import invalid_arguments
from siliconflow_provider.outputs import RESPONSE_FORMAT, OutputFormat, OutputSchema
from siliconflow_provider.pricing import (
    InvalidPricesError,
    TokenizerError,
    UnreadablePricesError,
    load_tokenizer,
    read_prices,
)
from siliconflow_provider.storage import (
    MissingFileError,
    is_below,
    is_same,
    names_file,
    size_and_version_of,
    source_files,
    storage_path,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from siliconflow_provider.batches import Submission
    from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

INPUT_FILE = "the file at input_path"
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


class InferenceTask(Protocol):
    """The arguments of `BatchInferenceOperator` that define its job."""

    input_path: str | None
    prompt: str | Sequence[Mapping[str, Any]] | None
    messages_column: str | None
    id_column: str | None
    system_prompt: str | None
    request_params: Mapping[str, Any] | None
    model: str | None
    output_type: Any
    limit: int | str | None
    bad_items: str
    output_format: str
    max_rounds: int
    max_active_batches: int | None
    min_success_rate: float | None
    deduplicate: bool
    completion_window: str | timedelta
    prices: Any
    max_cost: Any
    tokenizer: str | None
    siliconflow_conn_id: str

    @property
    def hook(self) -> SiliconFlowHook: ...


def check_input(input_path: str, output_path: ObjectStoragePath, results: str) -> None:
    """Raise OutputPathError if an input file is one of the files that the task writes.

    :param results: the name of the file with the results
    """
    source = storage_path(input_path, "input_path")
    if any(names_file(source, output_path / name) for name in (results, MANIFEST)):
        output, source_text = without_credentials(str(output_path)), without_credentials(input_path)
        raise OutputPathError(
            f"output_path {output} is in the input {source_text}: its results would be read as input, "
            "or would be overwritten. Give an output_path outside of the input; nothing was submitted"
        )
    for file in _files_at(input_path):
        _check_input_file(file, output_path, results)


def _check_input_file(input_path: ObjectStoragePath, output_path: ObjectStoragePath, results: str) -> None:
    shown = without_credentials(str(input_path))
    for name in (results, MANIFEST):
        if is_same(input_path, output_path / name):
            raise OutputPathError(
                f"input_path {shown} would be overwritten: it is the {name} that this task writes to output_path. "
                "Give another output_path; nothing was submitted"
            )
    if is_below(input_path, output_path / INTERNAL):
        raise OutputPathError(
            f"input_path {shown} is in {INTERNAL}/ below output_path, where the task keeps its own files: move "
            "the input file, or give another output_path; nothing was submitted"
        )


def schema_of(task: InferenceTask) -> OutputSchema | None:
    """Return the schema of the task's `output_type`, or None if it has none.

    :raises InvalidArgumentError: if Pydantic cannot take the type
    """
    if task.output_type is None:
        return None
    try:
        return OutputSchema(task.output_type)
    except ImportError:
        raise
    except Exception as error:  # types run the user's own code
        reason, *_ = str(error).splitlines() or [""]
    raise InvalidArgumentError(
        f"output_type is {task.output_type!r}, of which Pydantic makes no JSON schema ({reason}): give a Pydantic "
        "model, or a type that TypeAdapter accepts"
    )


def output_format_of(name: str, schema: OutputSchema | None) -> OutputFormat:
    """Return the form in which the task's results are published.

    :raises AirflowOptionalProviderFeatureException: if a package for it is not installed on this worker
    """
    if name == "parquet" and find_spec("pyarrow") is None:
        raise AirflowOptionalProviderFeatureException(
            "output_format='parquet' needs pyarrow, which is not installed: pip install "
            "'airflow-provider-siliconflow[arrow]'; nothing was submitted"
        )
    return OutputFormat(name, None if schema is None else schema.columns)


def request_builder_of(task: InferenceTask, schema: OutputSchema | None) -> RequestBuilder:
    """Return the request builder with the task's prompt and its defaults for requests."""
    check_prompt(task.prompt)
    for name in ("messages_column", "system_prompt", "id_column"):
        check_text(name, getattr(task, name))
    params = as_request_params(task.request_params)
    if schema is not None:
        params.setdefault("response_format", RESPONSE_FORMAT)
        if params["response_format"] is None:
            # For models without JSON mode.
            del params["response_format"]
    return RequestBuilder(
        prompt=task.prompt,
        messages_column=task.messages_column,
        id_column=task.id_column,
        system_prompt=task.system_prompt,
        instruction=None if schema is None else schema.instruction,
        request_params=params,
        model=task.model,
    )


def costs_of(task: InferenceTask) -> CostSettings:
    """Return the prices of the task, and the most that it may cost.

    :raises InvalidArgumentError: if they are invalid, or `max_cost` has no prices
    :raises UnreadablePricesError: if their file in an object storage cannot be read
    """
    try:
        prices = task.hook.prices if task.prices in (None, "") else read_prices(task.prices, read_file=content_of)
        counter = None if task.tokenizer is None else load_tokenizer(task.tokenizer)
    except UnreadablePricesError:
        raise
    except (InvalidPricesError, TokenizerError) as error:
        raise InvalidArgumentError(str(error)) from None
    max_cost = as_amount("max_cost", task.max_cost)
    if max_cost is not None and prices is None:
        raise InvalidArgumentError(
            f"max_cost is {max_cost}, but there are no prices: give prices=, or set them in the extra of connection "
            f"{task.siliconflow_conn_id!r}"
        )
    return CostSettings(prices, max_cost, counter)


def settings_of(task: InferenceTask, schema: OutputSchema | None, submission: Submission) -> Settings:
    """Return the settings of the task's job.

    :raises InvalidArgumentError: if an argument is invalid
    """
    output_format = output_format_of(task.output_format, schema)
    with invalid_arguments():
        definition = definition_of(task, schema)
        submission.check_arguments()
    return Settings(
        submission,
        task.max_rounds,
        None if schema is None else schema.validate,
        definition,
        task.max_active_batches,
        costs_of(task),
        output_format,
        task.min_success_rate or 0.0,
    )


def definition_of(task: InferenceTask, schema: OutputSchema | None) -> dict[str, str]:
    """Return the hash of each argument that defines the task's job, by name. The items of `requests` are not hashed.

    :raises StorageError: if the size or time of the input file cannot be read
    """
    values = {
        "input_path": task.input_path,
        INPUT_FILE: None if task.input_path is None else _versions_of(task.input_path),
        "prompt": task.prompt,
        "messages_column": task.messages_column,
        "id_column": task.id_column,
        "system_prompt": task.system_prompt,
        "request_params": task.request_params or {},
        "model": task.model,
        "limit": as_limit(task.limit),
        # Unchanged for jobs of versions without this argument.
        "deduplicate": task.deduplicate or None,
        "output_type": None if schema is None else schema.json_schema,
        "completion_window": completion_window_text(task.completion_window),
        CONNECTION: _service_of(task.hook.get_conn().base_url),
        BAD_ITEMS: None,
    }
    hashes = {name: fingerprint(value) for name, value in values.items()}
    if task.bad_items == "skip":
        # With the items of any earlier job, it sends the same as that job did.
        hashes[BAD_ITEMS] = ""
    # A deleted input file is not a change: the job continues without it.
    return hashes if values[INPUT_FILE] is not None else {**hashes, INPUT_FILE: ""}


def _versions_of(input_path: str) -> list[Any] | None:
    """Return size and version of each input file, or None if there is none any more."""
    files = _files_at(input_path)
    versions = [size_and_version_of(file) for file in files]
    if len(files) < 2:
        return versions[0] if files else None
    return [*zip(map(str, files), versions, strict=True)]


def _files_at(input_path: str) -> list[ObjectStoragePath]:
    """Return the input files. A job continues without them, so it is no error if they are gone."""
    try:
        return source_files(storage_path(input_path, "input_path"))
    except MissingFileError:
        return []


def _service_of(base_url: str) -> str:
    """Return a base URL in normalized form: lower-case host, no default port, no trailing slash."""
    parts = urlsplit(base_url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
