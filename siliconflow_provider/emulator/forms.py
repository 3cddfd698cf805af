"""Alternative forms of responses, which the service was seen to use or which the provider accepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Self

from siliconflow_provider.emulator.errors import EmulatorError


def _form(meaning: str) -> Any:
    return field(default=False, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Forms:
    """The response forms to use. All can be combined, except for two forms of the same list.

    The forms apply to a response at the time of its request, and to a result file at its first download. A new batch
    is missing from the list for `list_lag_seconds`.
    """

    result_ids: bool = _form("result files are ids for GET /files/{id}/content, not signed URLs")
    flat_upload: bool = _form("the response to an upload is not wrapped in data, as OpenAI's")
    wrapped_file_list: bool = _form("GET /files is wrapped, its data a list")
    nested_file_list: bool = _form("GET /files is wrapped, its data an object with a list")
    error_objects: bool = _form("a failed batch's errors are OpenAI's list of objects")
    openai_lines: bool = _form("answer lines have status_code and request_id, failed requests too")
    body_strings: bool = _form("an answer line's response.body is JSON in a string")
    errors_without_code: bool = _form("lines of error files have no code")
    unknown_model_lines: bool = _form("requests to a model that the account does not have fail, not the create")
    files_oldest_first: bool = _form("GET /files lists the oldest files first")
    files_without_query: bool = _form("GET /files refuses purpose and limit, and lists all files")
    files_query_ignored: bool = _form("GET /files ignores purpose and limit, and lists ten files")
    list_without_metadata: bool = _form("listed batches have no metadata")
    list_without_times: bool = _form("listed batches have no times and result files")
    list_oldest_first: bool = _form("GET /batches lists the oldest batches first")
    list_unordered: bool = _form("GET /batches lists batches in random order")
    pages_of_twenty: bool = _form("GET /batches lists at most twenty batches a page")
    without_has_more: bool = _form("GET /batches has no has_more")
    after_ignored: bool = _form("GET /batches ignores after, and has_more stays true")
    second_page_missing: bool = _form("GET /batches omits the second page")
    unpaged: bool = _form("GET /batches ignores limit and after, and lists all batches")
    metadata_dropped: bool = _form("batches have no metadata in any response")
    metadata_cut: bool = _form("the values of metadata are cut after 32 characters")
    metadata_users_only: bool = _form("metadata whose key begins with airflow_ is dropped")
    list_lag_seconds: float = 0.0

    def __post_init__(self) -> None:
        for one, other in (("wrapped_file_list", "nested_file_list"), ("list_oldest_first", "list_unordered")):
            if getattr(self, one) and getattr(self, other):
                names = " and ".join(name.replace("_", "-") for name in (one, other))
                raise EmulatorError(f"{names} are two forms of the same response; choose one")

    @classmethod
    def named(cls, names: Iterable[str], list_lag_seconds: float = 0.0) -> Self:
        """Return the forms with these names, such as `result-ids`."""
        return cls(**{name.replace("-", "_"): True for name in names}, list_lag_seconds=list_lag_seconds)


MEANINGS = {form.name.replace("_", "-"): form.metadata["meaning"] for form in fields(Forms) if form.metadata}
