from __future__ import annotations

import io
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from siliconflow_provider.api.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidRequestError,
    UnsafeAddressError,
)
from siliconflow_provider.exceptions import InvalidConnectionError
from siliconflow_provider.hooks.siliconflow import SiliconFlowHook
from siliconflow_provider.pricing import read_prices


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a hook for a connection with these fields or this URI."""

    def make(uri: str | None = None, **fields: Any) -> SiliconFlowHook:
        value = uri or json.dumps({"conn_type": "siliconflow", "password": "sk-secret", **fields})
        monkeypatch.setenv("AIRFLOW_CONN_SF", value)
        return SiliconFlowHook("sf")

    return make


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://api.siliconflow.com/v1"),
        ({"host": "api.siliconflow.cn"}, "https://api.siliconflow.cn/v1"),
        ({"host": "https://api.siliconflow.cn/v1"}, "https://api.siliconflow.cn/v1"),
        ({"host": "https://api.siliconflow.cn/v1/"}, "https://api.siliconflow.cn/v1"),
        ({"host": "https://api.siliconflow.cn"}, "https://api.siliconflow.cn/v1"),
        ({"host": "gateway.example/siliconflow/v1"}, "https://gateway.example/siliconflow/v1"),
        ({"host": "127.0.0.1", "port": 8900, "schema": "http"}, "http://127.0.0.1:8900/v1"),
        ({"host": "http://127.0.0.1:8900/v1", "port": 1}, "http://127.0.0.1:8900/v1"),
        ({"host": "api.siliconflow.cn", "port": 0, "schema": ""}, "https://api.siliconflow.cn/v1"),
        ({"host": "http://127.0.0.1/v1", "port": 8900}, "http://127.0.0.1:8900/v1"),
        ({"port": 443}, "https://api.siliconflow.com/v1"),
        ({"host": "api.siliconflow.cn", "port": 443}, "https://api.siliconflow.cn/v1"),
        ({"host": "http://127.0.0.1:8900/v1", "port": 443}, "http://127.0.0.1:8900/v1"),
    ],
)
def test_base_url_is_built_from_the_fields(hook, fields, base_url) -> None:
    assert hook(**fields).get_conn().base_url == base_url


def test_connection_may_be_a_uri(hook) -> None:
    client = hook("siliconflow://:sk-secret@127.0.0.1:8900/http?timeout=5&deployment=staging").get_conn()
    assert client.base_url == "http://127.0.0.1:8900/v1"
    assert SiliconFlowHook("sf").deployment == "staging"


def test_deployment_is_empty_by_default(hook) -> None:
    assert hook().deployment == ""
    assert hook(extra={"deployment": "staging"}).deployment == "staging"


def test_client_is_built_once(hook) -> None:
    one = hook()
    assert one.get_conn() is one.get_conn()


def test_missing_connection_has_a_remedy() -> None:
    with pytest.raises(AirflowNotFoundException, match=r"connection 'nowhere' does not exist: .* AIRFLOW_CONN_NOWHERE"):
        SiliconFlowHook("nowhere").get_conn()


def test_connection_without_a_key_has_a_remedy(hook) -> None:
    with pytest.raises(InvalidConnectionError, match="connection 'sf' has no password: set the SiliconFlow API key"):
        hook(password="").get_conn()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"timeout": "soon"}, "connection 'sf' has the invalid timeout 'soon' in its extra: give a number, such as 60"),
        ({"timeout": 0}, "connection 'sf' has the invalid timeout 0 in its extra"),
        ({"storage_hosts": "https://a"}, "connection 'sf': storage_hosts has 'https://a': give host names"),
        ({"storage_hosts": 7}, "connection 'sf': storage_hosts in its extra is neither a list nor a string"),
        ({"max_retries": -1}, "connection 'sf' has the invalid max_retries -1 in its extra: give a number, such as 5"),
    ],
)
def test_invalid_extra_is_named(hook, extra, message) -> None:
    with pytest.raises(InvalidConnectionError, match=message):
        hook(extra=extra).get_conn()


@pytest.mark.parametrize(
    "host",
    [
        "http://user:s3cret@",
        "http://user:s3cret@host",
        "u:s3cret@host",
        "ftp://host",
        "http://",
        "http://h:99999",
        "h:x",
    ],
)
@pytest.mark.parametrize("port", [None, 8900])
def test_invalid_host_is_explained(hook, host, port) -> None:
    with pytest.raises(InvalidRequestError, match=r"^base_url ") as caught:
        hook(host=host, port=port).get_conn()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("hosts", ["*.example.com, a.example.org,", ["*.example.com", "a.example.org"]])
def test_storage_hosts_limit_downloads(hook, hosts) -> None:
    client = hook(host="http://127.0.0.1:9", extra={"storage_hosts": hosts}).get_conn()
    with pytest.raises(UnsafeAddressError, match=r"evil\.example\.org, which is not in the connection's storage_hosts"):
        client.download("http://evil.example.org/results", io.BytesIO())


PRICES = {"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 0.1, "output": 4}}}


def test_connection_without_prices_has_none(hook) -> None:
    assert hook().prices is None
    assert hook(extra={"prices": ""}).prices is None


def test_prices_are_mapping_text_or_file(hook, tmp_path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    for given in (PRICES, json.dumps(PRICES), str(path), f"file://{path}"):
        assert hook(extra={"prices": given}).prices == read_prices(PRICES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "prices in the extra of connection 'sf' are not JSON"),
        (7, "prices in the extra of connection 'sf': expected a mapping, got int"),
        ("file:///no/prices.json", r"connection 'sf' file:///no/prices\.json cannot be read"),
    ],
)
def test_invalid_prices_fail_only_their_reader(hook, given, message) -> None:
    one = hook(extra={"prices": given})
    assert one.get_conn().base_url
    with pytest.raises(InvalidConnectionError, match=message):
        _ = one.prices


def test_connection_test_reads_the_prices(hook, emulator) -> None:
    fields = {"host": emulator.base_url, "password": emulator.api_key}
    passed, message = hook(**fields, extra={"prices": PRICES}).test_connection()
    assert passed
    assert message.endswith("; prices: 1 model in CNY")
    passed, message = hook(**fields, extra={"prices": "{}"}).test_connection()
    assert not passed
    assert "prices in the extra of this connection have no currency" in message


def test_key_is_in_no_repr(hook) -> None:
    one = hook()
    assert "sk-secret" not in repr(one.get_conn()) + repr(one) + repr(vars(one.get_conn()))


def test_connection_test_shows_host_and_balance(connection, emulator) -> None:
    passed, message = SiliconFlowHook(connection).test_connection()
    assert passed
    assert message == (
        f"{emulator.base_url.split('/')[2]} accepts the API key; account status: normal, charged balance: 88.00 "
        "(it pays for batches; charge it at https://cloud.siliconflow.com/me/expensebill)"
    )
    assert not emulator.control.answers()["GET /files"]


def test_unknown_account_path_falls_back_to_files(connection, emulator) -> None:
    emulator.control.fault("GET /user/info", status=404, every=1)
    passed, message = SiliconFlowHook(connection).test_connection()
    assert passed
    assert message.endswith("accepts the API key; it does not show the account's status and balance")
    emulator.control.fault("GET /files", status=401, every=1)
    assert not SiliconFlowHook(connection).test_connection()[0]


def test_refused_key_fails_the_connection_test(hook, emulator) -> None:
    passed, message = hook(host=emulator.base_url, password="sk-wrong").test_connection()
    assert not passed
    assert "Invalid token" in message
    assert "check the API key" in message
    assert "of this connection" in message
    assert "sk-wrong" not in message


def test_refused_key_names_the_connection(hook, emulator) -> None:
    client = hook(host=emulator.base_url, password="sk-wrong").get_conn()
    with pytest.raises(AuthenticationError, match="check the API key of connection 'sf'; keys of"):
        client.get_batch("batch_1")


def test_unreachable_host_names_the_connection(hook) -> None:
    client = hook(host="http://127.0.0.1:9/v1", extra={"max_retries": "0"}).get_conn()
    with pytest.raises(ConnectionFailedError, match="check the base URL of connection 'sf' and the network"):
        client.get_batch("batch_1")
