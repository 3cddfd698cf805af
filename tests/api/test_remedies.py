from __future__ import annotations

import io
from typing import Any

import pytest

from siliconflow_provider.api import errors
from siliconflow_provider.api.remedies import LINK_REMEDIES, api_remedies, billing_page


@pytest.mark.parametrize(
    ("base_url", "page"),
    [
        ("https://api.siliconflow.com/v1", "https://cloud.siliconflow.com/me/expensebill"),
        ("https://api.siliconflow.cn/v1", "https://cloud.siliconflow.cn/expensebill"),
        ("http://127.0.0.1:8900/v1", "https://cloud.siliconflow.com/me/expensebill"),
    ],
)
def test_billing_page_is_on_the_apis_site(base_url: str, page: str) -> None:
    assert billing_page(base_url) == page
    assert page in api_remedies(base_url, None, None)[403]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404])
def test_every_remedy_has_the_label(status: int) -> None:
    label = "connection 'sf'"
    assert f"of {label}" in api_remedies("https://api.siliconflow.com/v1", label, label)[status]


@pytest.mark.parametrize(("path", "begins"), [("/v1", "check the id"), ("/v2", "the base URL of URL does not end in")])
def test_unknown_path_blames_the_base_url(path: str, begins: str) -> None:
    remedy = api_remedies(f"https://api.siliconflow.com{path}", "KEY", "URL")[404]
    assert remedy.startswith(begins)
    assert "API key of KEY" in remedy


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, LINK_REMEDIES[401]), (403, LINK_REMEDIES[403]), (404, LINK_REMEDIES[404])]
)
def test_refused_link_does_not_blame_the_key(server: Any, storage: Any, caller: Any, status: int, remedy: str) -> None:
    storage.text("no", status)
    with pytest.raises(errors.ServiceError) as caught:
        caller.download(storage.signed_url, io.BytesIO())
    assert caught.value.message.endswith(f"was refused: no: {remedy}")


@pytest.mark.parametrize("status", [408, 425])
def test_timed_out_read_is_retried(server: Any, caller: Any, batch_json: Any, status: int) -> None:
    server.text("later", status).json(batch_json("batch_1"))
    assert caller.get_batch("batch_1").id == "batch_1"


@pytest.mark.parametrize("status", [408, 425])
def test_timed_out_create_is_uncertain(server: Any, caller: Any, status: int) -> None:
    server.text("later", status)
    with pytest.raises(errors.CreateUncertainError):
        caller.create_batch("file-1")
    assert len(server.received) == 1


def test_conflict_is_not_retried(server: Any, caller: Any) -> None:
    server.text("conflict", 409)
    with pytest.raises(errors.BadRequestError):
        caller.get_batch("batch_1")
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("model", "named"), [("deepseek-ai/Nothing", "model 'deepseek-ai/Nothing'"), (None, "the model on the lines")]
)
@pytest.mark.parametrize(("code", "status"), [(20012, 400), ("20012", 400), (20012, 200)])
def test_refused_create_names_the_model(
    server: Any, caller: Any, model: str | None, named: str, code: Any, status: int
) -> None:
    server.json({"code": code, "message": "Model does not exist", "data": None}, status)
    with pytest.raises(errors.BadRequestError) as caught:
        caller.create_batch("file-1", model=model)
    assert caught.value.message.endswith(f"was refused: Model does not exist: the service may not know {named}")
    assert caught.value.args == (caught.value.message,)


def test_other_refused_creates_do_not_name_the_model(server: Any, caller: Any) -> None:
    server.json({"code": 20015, "message": "no", "data": None}, 400)
    with pytest.raises(errors.BadRequestError, match=r"was refused: no \(status"):
        caller.create_batch("file-1", model="m")
