"""The second origin, which serves result files for signed URLs only, as an object storage does."""

from __future__ import annotations

from xml.sax.saxutils import escape

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from siliconflow_provider.emulator.batches import BatchStore
from siliconflow_provider.emulator.errors import ApiError
from siliconflow_provider.emulator.signing import Signer


class StorageError(Exception):
    """An error response with `status` and an XML body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message


def storage_app(batches: BatchStore, signer: Signer) -> Starlette:
    """Return the storage origin's application."""

    def result_file(request: Request) -> Response:
        _admit(request, signer)
        try:
            path = batches.result_path(request.path_params["file_id"])
        except ApiError:
            raise StorageError(404, "NoSuchKey", "The specified key does not exist.") from None
        return FileResponse(path, media_type="application/octet-stream")

    return Starlette(
        routes=[Route("/results/{file_id}", result_file, methods=["GET"])],
        exception_handlers={
            StorageError: _storage_error,
            HTTPException: _unknown_path,
            Exception: _internal_error,
        },
    )


def _admit(request: Request, signer: Signer) -> None:
    if "authorization" in request.headers:
        raise StorageError(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed: a signed URL takes no Authorization header.",
        )
    query = request.query_params
    fault = signer.fault(request.scope["path"], query.get("Expires", ""), query.get("Signature", ""))
    if fault == "signature":
        raise StorageError(403, "SignatureDoesNotMatch", "The signature does not match the request.")
    if fault == "expired":
        raise StorageError(403, "AccessDenied", "Request has expired.")


def _storage_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)  # noqa: S101 - for the type checker: it is registered for this class
    return _xml(error.status, error.code, error.message)


def _unknown_path(request: Request, error: Exception) -> Response:
    return _xml(404, "NoSuchKey", "The specified key does not exist.")


def _internal_error(request: Request, error: Exception) -> Response:
    return _xml(500, "InternalError", "The emulator failed; its terminal shows why.")


def _xml(status: int, code: str, message: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(body, status, media_type="application/xml")
