"""The forms of answers beside the usual ones: each has been seen of the service, or is accepted of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Self

from siliconflow_provider.emulator.errors import EmulatorError


def _form(meaning: str) -> Any:
    return field(default=False, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Forms:
    """Which forms to answer in; any may be combined but for the two of file lists.

    Objects and lists have the form in force when they are asked for, a result file that of its first download.
    For `list_lag_seconds` a new batch is missing from the list.
    """

    result_ids: bool = _form("result files are ids for GET /files/{id}/content, not signed URLs")
    flat_upload: bool = _form("an uploaded file comes without a wrapping, as OpenAI's")
    wrapped_file_list: bool = _form("GET /files is wrapped, its data a list")
    nested_file_list: bool = _form("GET /files is wrapped, its data an object with a list")
    error_objects: bool = _form("a failed batch's errors are OpenAI's list of objects")
    openai_lines: bool = _form("answer lines have status_code and request_id, failed requests too")
    body_strings: bool = _form("an answer line's response.body is JSON in a string")
    errors_without_code: bool = _form("lines of error files have no code")
    files_oldest_first: bool = _form("GET /files lists the oldest files first")
    files_without_query: bool = _form("GET /files refuses purpose and limit, and lists everything")
    files_query_ignored: bool = _form("GET /files ignores purpose and limit, and lists ten files")
    list_without_metadata: bool = _form("listed batches come without metadata")
    list_without_times: bool = _form("listed batches come without times and result files")
    list_oldest_first: bool = _form("GET /batches lists the oldest batches first")
    list_unordered: bool = _form("GET /batches lists batches in no order")
    pages_of_twenty: bool = _form("GET /batches shows twenty batches a page at most")
    without_has_more: bool = _form("GET /batches does not say whether there are more")
    after_ignored: bool = _form("GET /batches ignores after, and goes on to say has_more")
    second_page_missing: bool = _form("GET /batches leaves out the second page")
    unpaged: bool = _form("GET /batches ignores limit and after: everything comes at once")
    metadata_dropped: bool = _form("batches come without metadata everywhere")
    metadata_cut: bool = _form("the values of metadata are cut after 32 characters")
    metadata_users_only: bool = _form("metadata whose key begins with airflow_ is dropped")
    list_lag_seconds: float = 0.0

    def __post_init__(self) -> None:
        for one, other in (("wrapped_file_list", "nested_file_list"), ("list_oldest_first", "list_unordered")):
            if getattr(self, one) and getattr(self, other):
                names = " and ".join(each.replace("_", "-") for each in (one, other))
                raise EmulatorError(f"{names} are two forms of one answer; choose one")

    @classmethod
    def named(cls, names: Iterable[str], list_lag_seconds: float = 0.0) -> Self:
        """The forms with these names, such as `result-ids`."""
        return cls(**{name.replace("-", "_"): True for name in names}, list_lag_seconds=list_lag_seconds)


MEANINGS = {each.name.replace("_", "-"): each.metadata["meaning"] for each in fields(Forms) if each.metadata}
