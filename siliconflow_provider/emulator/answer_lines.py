"""Write the lines of result files in the service's forms."""

from __future__ import annotations

from typing import Any

import msgspec

from siliconflow_provider.emulator.forms import Forms


def answer_line(key: str, custom_id: str, completion: dict[str, Any], forms: Forms) -> dict[str, Any]:
    """Return the line of a successful request."""
    return _line(key, custom_id, _response(key, 200, completion, forms), None)


def error_line(key: str, custom_id: str, error: Any, forms: Forms, *, ran: bool) -> dict[str, Any]:
    """Return the line of a request that failed, or that was not run."""
    if forms.errors_without_code and isinstance(error, dict) and "message" in error:
        error = {"message": error["message"]}
    if forms.openai_lines and ran:
        return _line(key, custom_id, _response(key, 400, {"error": error}, forms), None)
    return _line(key, custom_id, None, error)


def _line(key: str, custom_id: str, response: Any, error: Any) -> dict[str, Any]:
    return {"id": f"batch_req_{key}", "custom_id": custom_id, "response": response, "error": error}


def _response(key: str, status: int, body: dict[str, Any], forms: Forms) -> dict[str, Any]:
    shown = {"body": msgspec.json.encode(body).decode() if forms.body_strings else body}
    return {"status_code": status, "request_id": f"req_{key}"} | shown if forms.openai_lines else shown
