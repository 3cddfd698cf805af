"""Receive an upload: a multipart form whose file is written to disk as it arrives."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from siliconflow_provider.emulator.errors import bad_request

MOST_BYTES = 1_000_000_000  # "1 GB"; not documented if decimal or binary
LONGEST_FIELD = 1_000


class Upload:
    """The form's `purpose` and `file`, in any order. Other fields are ignored.

    The end of the `with` block deletes the temporary file, unless it was moved.
    """

    def __init__(self, content_type: str | None, path: Path) -> None:
        media_type, options = parse_options_header(content_type)
        if media_type != b"multipart/form-data" or not options.get(b"boundary"):
            raise bad_request("file", "the body must be multipart/form-data")
        self.path = path
        self.filename = ""
        self.bytes = 0
        self._purpose = b""
        self._part: str | None = None
        self._header_name = b""
        self._header_value = b""
        self._ended = False
        self._parser = self._parser_of(options[b"boundary"])
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Parse the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise bad_request("file", f"the body is not valid multipart/form-data: {error}") from None

    def finish(self) -> None:
        """Check that the form is complete and valid. The file is then complete at `path`."""
        self._file.close()
        if not self._ended:
            raise bad_request("file", "the multipart body is incomplete")
        if self._purpose != b"batch":
            raise bad_request("purpose", "is required and must be 'batch'")
        if not self.filename:
            raise bad_request("file", "is required, with a file name")
        if not self.bytes:
            raise bad_request("file", "must not be empty")
        if self.bytes > MOST_BYTES:
            raise bad_request("file", f"must be at most 1 GB ({MOST_BYTES:,} bytes), not {self.bytes:,} bytes")

    def _parser_of(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            filename = options.get(b"filename", b"").decode(errors="replace")
            self._part = options.get(b"name", b"").decode(errors="replace")
            if self._part == "file" and (self.filename or not filename):
                self._part = None
            elif self._part == "file":
                self.filename = filename
        self._header_name = self._header_value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "purpose" and len(self._purpose) < LONGEST_FIELD:
            self._purpose += data[start:end]
        elif self._part == "file":
            self.bytes += end - start
            # A file that is too large is read to its end, because only then does the client read the response.
            if self.bytes <= MOST_BYTES:
                self._file.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        self._part = None

    def _on_end(self) -> None:
        self._ended = True
