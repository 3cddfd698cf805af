"""What an inference task asks for, in the words of a job: its submission, its builder and what defines it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from siliconflow_provider.api.durations import completion_window_text
from siliconflow_provider.exceptions import OutputPathError
from siliconflow_provider.inputs import RequestBuilder
from siliconflow_provider.job_directory import INTERNAL, MANIFEST, RESULTS
from siliconflow_provider.jobs import fingerprint
from siliconflow_provider.outputs import RESPONSE_FORMAT, OutputSchema
from siliconflow_provider.storage import is_below, is_same, size_and_version_of, storage_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from siliconflow_provider.hooks.siliconflow import SiliconFlowHook

INPUT_FILE = "the file at input_path"
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


class InferenceTask(Protocol):
    """The arguments of `BatchInferenceOperator` that define its job."""

    input_path: str | None
    prompt: str | None
    id_column: str | None
    system_prompt: str | None
    request_params: Mapping[str, Any] | None
    model: str | None
    output_type: Any
    completion_window: str | timedelta

    @property
    def hook(self) -> SiliconFlowHook: ...


def check_input(input_path: ObjectStoragePath, output_path: ObjectStoragePath) -> None:
    """Raise OutputPathError where a task would read what it writes."""
    for name in (RESULTS, MANIFEST):
        if is_same(input_path, output_path / name):
            raise OutputPathError(
                f"input_path {input_path} is the {name} that this task writes to output_path: it would be overwritten. "
                "Give another output_path; nothing was submitted"
            )
    if is_below(input_path, output_path / INTERNAL):
        raise OutputPathError(
            f"input_path {input_path} is in {INTERNAL}/ below output_path, where the task keeps files of its own: move "
            "it, or give another output_path; nothing was submitted"
        )


def schema_of(task: InferenceTask) -> OutputSchema | None:
    """Return what its answers shall look like, if it says so."""
    return None if task.output_type is None else OutputSchema(task.output_type)


def request_builder_of(task: InferenceTask, schema: OutputSchema | None) -> RequestBuilder:
    """Return what it fills in where a request lacks it."""
    params = dict(task.request_params or {})
    if schema is not None:
        params.setdefault("response_format", RESPONSE_FORMAT)
    return RequestBuilder(
        prompt=task.prompt,
        id_column=task.id_column,
        system_prompt=task.system_prompt,
        instruction=None if schema is None else schema.instruction,
        request_params=params,
        model=task.model,
    )


def definition_of(task: InferenceTask, schema: OutputSchema | None) -> dict[str, str]:
    """Return hashes of what its job is made by; items that are given or returned are not looked at.

    :raises StorageError: when the input cannot be asked for
    """
    asked = {
        "input_path": task.input_path,
        INPUT_FILE: None
        if task.input_path is None
        else size_and_version_of(storage_path(task.input_path, "input_path")),
        "prompt": task.prompt,
        "id_column": task.id_column,
        "system_prompt": task.system_prompt,
        "request_params": task.request_params or {},
        "model": task.model,
        "output_type": None if schema is None else schema.json_schema,
        "completion_window": completion_window_text(task.completion_window),
        "connection": _service_of(task.hook.get_conn().base_url),
    }
    hashes = {name: fingerprint(value) for name, value in asked.items()}
    # A file that is gone is no other one: its job goes on without it.
    return hashes if asked[INPUT_FILE] is not None else {**hashes, INPUT_FILE: ""}


def _service_of(base_url: str) -> str:
    """Return a base URL in the one spelling that all of the same service share."""
    parts = urlsplit(base_url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
