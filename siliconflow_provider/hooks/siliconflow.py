"""The hook, which builds a client from an Airflow connection."""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from siliconflow_provider import CONNECTION_FIELDS, CONNECTION_FORM
from siliconflow_provider.exceptions import InvalidConnectionError, UnknownConnectionError
from siliconflow_provider.hooks.secrets_backends import is_any_failing

if TYPE_CHECKING:
    from siliconflow_provider.api.client import SiliconFlowClient
    from siliconflow_provider.pricing import Prices

DEFAULT_CONN_ID = "siliconflow_default"


class SiliconFlowHook(BaseHook):
    """Hook that returns a client for an Airflow connection.

    The connection's fields: password = API key; host = base URL (default `https://api.siliconflow.com/v1`; a bare
    host name gets `https://` and `/v1`), completed by schema and port; extra = `timeout` (seconds), `max_retries`,
    `deployment` (the name of this Airflow, unique among those that use the account) and `storage_hosts` (the only
    hosts, besides the API's, that results may be downloaded from: a list, or a string with commas) and `prices`
    (of models: a mapping, a JSON text, or the path of a JSON file).
    """

    conn_name_attr = "siliconflow_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "siliconflow"
    hook_name = "SiliconFlow"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form, for Airflow versions that ignore those in the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import StringField

        return {
            name: StringField(field["label"], widget=BS3TextFieldWidget(), description=field["description"])
            for name, field in CONNECTION_FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels, placeholders and hidden fields of the form, for the same Airflow versions."""
        return {name.replace("-", "_"): value for name, value in CONNECTION_FORM.items()}

    def __init__(self, siliconflow_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.siliconflow_conn_id = siliconflow_conn_id

    @cached_property
    def _connection(self) -> Any:
        try:
            return self.get_connection(self.siliconflow_conn_id)
        except AirflowNotFoundException:
            variable = f"AIRFLOW_CONN_{self.siliconflow_conn_id.upper()}"
            # A retry may find the connection if a secrets backend has failed, which Airflow does not tell.
            kind = AirflowNotFoundException if is_any_failing(self.siliconflow_conn_id) else UnknownConnectionError
            # The original message says less, and would come first in the log.
            raise kind(
                f"connection {self.siliconflow_conn_id!r} does not exist: create it with type siliconflow and the "
                f"API key as password, or set {variable}"
            ) from None

    @cached_property
    def _client(self) -> SiliconFlowClient:
        return self._new_client(f"connection {self.siliconflow_conn_id!r}")

    def _new_client(self, label: str, *, most_timeout: float = inf, most_retries: float = inf) -> SiliconFlowClient:
        from siliconflow_provider.api.client import SiliconFlowClient
        from siliconflow_provider.api.errors import InvalidRequestError
        from siliconflow_provider.api.session import base_url_of

        connection = self._connection
        if not connection.password:
            raise InvalidConnectionError(
                f"connection {self.siliconflow_conn_id!r} has no password: set the SiliconFlow API key there"
            )
        options: dict[str, Any] = {
            "timeout": min(self._number("timeout", 60.0), most_timeout),
            "max_retries": int(min(self._number("max_retries", 5), most_retries)),
            "storage_hosts": self._storage_hosts(),
        }
        try:
            base_url = base_url_of(connection.host, connection.schema, connection.port)
            return SiliconFlowClient(connection.password, base_url, label=label, **options)
        except InvalidRequestError as error:
            message = error.message
        raise InvalidConnectionError(message)

    def get_conn(self) -> SiliconFlowClient:
        """Return the client of this connection. It is built once.

        :raises UnknownConnectionError: if the connection does not exist
        :raises InvalidConnectionError: if a field of the connection is missing or invalid
        """
        return self._client

    def get_quick_conn(self, timeout: float) -> SiliconFlowClient:
        """Return a new client that does not retry, for requests that must not take long.

        :param timeout: seconds without data after which a request times out
        """
        return self._new_client(f"connection {self.siliconflow_conn_id!r}", most_timeout=timeout, most_retries=0)

    def has_current_key(self) -> bool:
        """Return True if the connection still has the API key of the client. Read it again; False if that fails."""
        try:
            current: str | None = self.get_connection(self.siliconflow_conn_id).password
        except Exception:
            return False
        return bool(current == self._connection.password)

    @property
    def deployment(self) -> str:
        """The name of this Airflow, needed if several use one account; empty by default."""
        return str(self._connection.extra_dejson.get("deployment") or "")

    @cached_property
    def prices(self) -> Prices | None:
        """The prices of models, or None if the connection has none.

        They are read when they are first asked for: invalid ones fail no task that needs no prices.

        :raises InvalidConnectionError: if they are invalid
        :raises UnreadablePricesError: if their file in an object storage cannot be read
        """
        return self._read_prices(f"connection {self.siliconflow_conn_id!r}")

    def _read_prices(self, label: str) -> Prices | None:
        value = self._connection.extra_dejson.get("prices")
        if value in (None, ""):
            return None
        from siliconflow_provider.pricing import InvalidPricesError, UnreadablePricesError, read_prices

        try:
            return read_prices(value, name=f"prices in the extra of {label}", read_file=content_of)
        except UnreadablePricesError:
            raise
        except InvalidPricesError as error:
            failure = error
        raise InvalidConnectionError(str(failure))

    def test_connection(self) -> tuple[bool, str]:
        """Return True if the service accepts the connection, and a message, for Airflow's test button."""
        try:
            # Airflow tests a copy with a random id, which must not be in the message.
            description = _describe_account(self._new_client("this connection"))
            return True, description + _describe_prices(self._read_prices("this connection"))
        except Exception as error:
            return False, str(error)

    def _storage_hosts(self) -> tuple[str, ...]:
        from siliconflow_provider.api.addresses import checked_hosts
        from siliconflow_provider.api.errors import InvalidRequestError

        value = self._connection.extra_dejson.get("storage_hosts") or ()
        hosts = value.split(",") if isinstance(value, str) else value
        try:
            return checked_hosts(host for host in hosts if str(host).strip())
        except (InvalidRequestError, TypeError) as error:
            failure = error
        raise InvalidConnectionError(f"connection {self.siliconflow_conn_id!r}: {_message_of(failure)}")

    def _number(self, name: str, default: float) -> float:
        value = self._connection.extra_dejson.get(name)
        if value in (None, ""):
            return default
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < float("inf") or (name == "timeout" and number == 0):
            raise InvalidConnectionError(
                f"connection {self.siliconflow_conn_id!r} has the invalid {name} {value!r} in its extra: give a "
                f"number, such as {default:g}"
            )
        return number


def _message_of(error: Exception) -> str:
    if isinstance(error, TypeError):
        return "storage_hosts in its extra is neither a list nor a string: give a value such as '*.example.com'"
    return str(error)


def content_of(url: str) -> bytes:
    """Return the content of a file in Airflow's object storage."""
    from siliconflow_provider.storage import read_chunks, storage_path

    return b"".join(read_chunks(storage_path(url, "prices")))


def _describe_prices(prices: Prices | None) -> str:
    from siliconflow_provider.wording import counted

    return "" if prices is None else f"; prices: {counted(len(prices.models), 'model')} in {prices.currency}"


def _describe_account(client: SiliconFlowClient) -> str:
    """Return a message with the API's host, the account's status and its charged balance."""
    from siliconflow_provider.api.errors import NotFoundError
    from siliconflow_provider.api.remedies import billing_page
    from siliconflow_provider.api.session import address

    site = address(client.base_url)
    try:
        account = client.get_account()
    except NotFoundError:
        client.list_files()
        return f"{site} accepts the API key; it does not show the account's status and balance"
    return (
        f"{site} accepts the API key; account status: {account.status or 'not shown'}, charged balance: "
        f"{account.charge_balance or 'not shown'} (it pays for batches; charge it at {billing_page(client.base_url)})"
    )
