"""Read the results of a job or a batch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siliconflow_provider.outputs import ResultRow

__all__ = ["ResultRow", "read_results"]


def read_results(
    summary_or_path: Mapping[str, Any] | str | os.PathLike[str], *, status: str | Collection[str] | None = None
) -> Iterator[ResultRow]:
    """Yield the rows of `results.jsonl`, streaming.

    :param summary_or_path: the return value of an operator, or the path of the file or of its directory
    :param status: yield only rows with this status or one of these, such as `"succeeded"`
    :raises ValueError: if a status does not exist
    """
    import msgspec

    from siliconflow_provider.outputs import STATUSES, ResultRow
    from siliconflow_provider.storage import open_for_reading, storage_path

    wanted = {status} if isinstance(status, str) else status
    # The first status is internal: the row is not known yet.
    unknown = set(wanted or ()) - set(STATUSES[1:])
    if unknown:
        raise ValueError(f"status {sorted(unknown)[0]!r} does not exist: there are {', '.join(STATUSES[1:])}")
    if isinstance(summary_or_path, Mapping):
        path = storage_path(summary_or_path["results_path"], "results")
    else:
        path = storage_path(summary_or_path, "results")
        if path.suffix != ".jsonl":
            path = path / "results.jsonl"
    decode = msgspec.json.Decoder(ResultRow).decode
    with open_for_reading(path, "results") as lines:
        for line in lines:
            row = decode(line)
            if wanted is None or row.status in wanted:
                yield row


if not TYPE_CHECKING:  # A type checker would accept any name.

    def __getattr__(name: str) -> Any:
        """Import `ResultRow` at its first use: DAG files import this module."""
        if name != "ResultRow":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from siliconflow_provider.outputs import ResultRow

        return ResultRow
