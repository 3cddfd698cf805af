from __future__ import annotations

import pickle

import pytest

from siliconflow_provider import exceptions
from siliconflow_provider.api import errors
from siliconflow_provider.api.errors import SiliconFlowError, error_class


def tree(kind: type[SiliconFlowError]) -> list[type[SiliconFlowError]]:
    return [kind, *(error for child in kind.__subclasses__() for error in tree(child))]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", tree(SiliconFlowError))
def test_error_survives_pickling(kind: type[SiliconFlowError], protocol: int) -> None:
    error = kind("gone", status=503, code=50505, request_id="trace-1", retry_after=2.5)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert (copy.status, copy.code, copy.request_id, copy.retry_after) == (503, 50505, "trace-1", 2.5)
    assert str(copy) == str(error) == "gone (status 503, code 50505, request id trace-1)"
    assert copy.args == error.args


def test_error_without_details_is_its_message() -> None:
    error = pickle.loads(pickle.dumps(SiliconFlowError("gone")))
    assert (str(error), error.status, error.code, error.request_id, error.retry_after) == ("gone", *[None] * 4)


def test_every_error_is_importable_from_exceptions() -> None:
    assert {kind.__name__ for kind in tree(SiliconFlowError)} <= set(exceptions.__all__)


def test_invalid_request_error_is_a_value_error() -> None:
    assert issubclass(errors.InvalidRequestError, ValueError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (307, errors.BadRequestError),
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, errors.ServerError),
        (409, errors.BadRequestError),
        (418, errors.BadRequestError),
        (425, errors.ServerError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (504, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_status_has_its_error_class(status: int, kind: type[SiliconFlowError]) -> None:
    assert error_class(status) is kind


def test_advice_has_its_own_lines() -> None:
    error = errors.ServerError("busy\n[2027-01-15] ERROR forged", status=503).with_advice("Try again.\nOr wait.")
    assert str(error) == "busy\\n[2027-01-15] ERROR forged.\nTry again.\nOr wait. (status 503)"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
