"""An Airflow connection, turned into a client."""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from siliconflow_provider import CONNECTION_FIELDS, CONNECTION_FORM
from siliconflow_provider.exceptions import InvalidConnectionError

if TYPE_CHECKING:
    from siliconflow_provider.api.client import SiliconFlowClient

DEFAULT_CONN_ID = "siliconflow_default"


class SiliconFlowHook(BaseHook):
    """Lends the connection's client.

    The connection: password = API key; host = base URL (default `https://api.siliconflow.com/v1`; a bare host
    gets `https://` and `/v1`), for which schema and port are honoured; extra = `timeout` (seconds),
    `max_retries`, `deployment`, which names this Airflow: another name in each that uses the account, and
    `storage_hosts`, the only hosts beside the API's that results may come from (a list or a text with commas).
    """

    conn_name_attr = "siliconflow_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "siliconflow"
    hook_name = "SiliconFlow"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form, for an Airflow that does not read them from the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import StringField

        return {
            name: StringField(each["label"], widget=BS3TextFieldWidget(), description=each["description"])
            for name, each in CONNECTION_FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels, placeholders and hidden fields of the form, for such an Airflow."""
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
            # The original says less, and would only stand above this in the log.
            raise AirflowNotFoundException(
                f"connection {self.siliconflow_conn_id!r} does not exist: create it with type siliconflow and the "
                f"API key as password, or set {variable}"
            ) from None

    @cached_property
    def _client(self) -> SiliconFlowClient:
        return self._new_client(f"connection {self.siliconflow_conn_id!r}")

    def _new_client(self, label: str, *, most_timeout: float = inf, most_retries: float = inf) -> SiliconFlowClient:
        from siliconflow_provider.api.client import SiliconFlowClient

        connection = self._connection
        if not connection.password:
            raise InvalidConnectionError(
                f"connection {self.siliconflow_conn_id!r} has no password: set the SiliconFlow API key there"
            )
        return SiliconFlowClient(
            connection.password,
            _base_url(connection.host, connection.schema, connection.port),
            timeout=min(self._number("timeout", 60.0), most_timeout),
            max_retries=int(min(self._number("max_retries", 5), most_retries)),
            label=label,
            storage_hosts=self._storage_hosts(),
        )

    def get_conn(self) -> SiliconFlowClient:
        """Return the client of this connection, which is built once.

        :raises AirflowNotFoundException: when there is no such connection
        :raises InvalidConnectionError: when the connection lacks the key, or a field of it cannot be used
        """
        return self._client

    def get_quick_conn(self, timeout: float) -> SiliconFlowClient:
        """Return a new client for what cannot wait: a failed request is not sent again.

        :param timeout: seconds without a byte after which a request is given up
        """
        return self._new_client(f"connection {self.siliconflow_conn_id!r}", most_timeout=timeout, most_retries=0)

    @property
    def deployment(self) -> str:
        """The name of this Airflow where several share one account; empty by default."""
        return str(self._connection.extra_dejson.get("deployment") or "")

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the service accepts the connection, for Airflow's test button."""
        try:
            # Airflow tests a copy under a random id, which would tell nobody anything.
            return True, _describe_account(self._new_client("this connection"))
        except Exception as error:
            return False, str(error)

    def _storage_hosts(self) -> tuple[str, ...]:
        from siliconflow_provider.api.addresses import checked_hosts
        from siliconflow_provider.api.errors import InvalidRequestError

        value = self._connection.extra_dejson.get("storage_hosts") or ()
        hosts = value.split(",") if isinstance(value, str) else value
        try:
            return checked_hosts(each for each in hosts if str(each).strip())
        except (InvalidRequestError, TypeError) as error:
            fault = error
        raise InvalidConnectionError(f"connection {self.siliconflow_conn_id!r}: {_sentence(fault)}")

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
                f"connection {self.siliconflow_conn_id!r} has {name} {value!r} in its extra: give a number, "
                f"such as {default:g}"
            )
        return number


def _sentence(fault: Exception) -> str:
    if isinstance(fault, TypeError):
        return "storage_hosts in its extra is neither a list nor a text: give '*.example.com', for instance"
    return str(fault)


def _describe_account(client: SiliconFlowClient) -> str:
    """Say which site accepts the key, and whether its account can pay for batches."""
    from siliconflow_provider.api.errors import NotFoundError
    from siliconflow_provider.api.remedies import billing_page
    from siliconflow_provider.api.session import address

    site = address(client.base_url)
    try:
        account = client.get_account()
    except NotFoundError:
        client.list_files()
        return f"{site} accepts the API key; it shows neither the account's status nor its balance"
    return (
        f"{site} accepts the API key; account status: {account.status or 'not shown'}, charged balance: "
        f"{account.charge_balance or 'not shown'} (it pays for batches; charge it at {billing_page(client.base_url)})"
    )


def _base_url(host: str | None, schema: str | None, port: int | None) -> str:
    """Put a connection's fields together; a host may be a whole URL, a host with a path, or a name."""
    from urllib.parse import urlsplit

    if not host:
        from siliconflow_provider.api.client import DEFAULT_BASE_URL

        return DEFAULT_BASE_URL
    from siliconflow_provider.api.session import checked_base_url

    host = host if "://" in host else f"{schema or 'https'}://{host}"
    # Before it is taken apart: what is no URL, or has a password in it, is refused with a sentence.
    parts = urlsplit(checked_base_url(host))
    # Airflow's form writes an empty port as 0, and a port is stored for its test button alone.
    needs_port = port and not parts.port and (parts.scheme, port) not in (("https", 443), ("http", 80))
    netloc = f"{parts.netloc}:{port}" if needs_port else parts.netloc
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/') or '/v1'}"
