from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

import siliconflow_provider
from siliconflow_provider.pricing import read_prices


@pytest.fixture
def providers() -> ProvidersManager:
    manager = ProvidersManager()
    manager.initialize_providers_hooks()
    return manager


def test_provider_info_matches_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(siliconflow_provider.get_provider_info(), schema)


def test_airflow_finds_the_provider_by_its_entry_point() -> None:
    (found,) = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.dist.name == "airflow-provider-siliconflow"
    ]
    assert found.load()() == siliconflow_provider.get_provider_info()
    assert ProvidersManager().providers["airflow-provider-siliconflow"].version == siliconflow_provider.__version__


def test_airflow_knows_the_connection_type(providers: ProvidersManager) -> None:
    hook = dict(providers.hooks)["siliconflow"]
    assert hook is not None
    assert hook.hook_name == "SiliconFlow"


def test_connection_form_has_labels_and_placeholders(providers: ProvidersManager) -> None:
    form = providers.field_behaviours["siliconflow"]
    prices = form["placeholders"].pop("extra__siliconflow__prices")
    assert read_prices(prices).currency == "CNY"
    assert form["relabeling"] == {"password": "API key", "host": "Base URL"}
    assert form["hidden_fields"] == ["login", "schema", "port", "extra"]
    assert form["placeholders"] == {
        "password": "sk-...",
        "host": "https://api.siliconflow.com/v1",
        "extra__siliconflow__timeout": "60",
        "extra__siliconflow__max_retries": "5",
        "extra__siliconflow__deployment": "production",
        "extra__siliconflow__storage_hosts": "*.example.com",
    }


def test_connection_form_has_the_extra_fields(providers: ProvidersManager) -> None:
    """Airflow 3.3 reads the fields from the provider info, 2.11 from the hook's widgets."""
    shown = {
        name: widget.field["schema"]["title"] if isinstance(widget.field, dict) else widget.field.args[0]
        for name, widget in providers.connection_form_widgets.items()
        if name.startswith("extra__siliconflow__")
    }
    assert shown == {
        "extra__siliconflow__timeout": "Timeout (seconds)",
        "extra__siliconflow__max_retries": "Retries of a request",
        "extra__siliconflow__deployment": "Deployment",
        "extra__siliconflow__storage_hosts": "Hosts of results",
        "extra__siliconflow__prices": "Prices",
    }


@pytest.mark.parametrize("name", ["BatchesLink", "ReportLink"])
def test_airflow_knows_the_links(providers: ProvidersManager, name: str) -> None:
    assert f"siliconflow_provider.links.{name}" in providers.extra_links_class_names


def test_airflow_knows_the_task_decorator(providers: ProvidersManager) -> None:
    providers.initialize_providers_taskflow_decorator()
    assert providers.taskflow_decorators["siliconflow_batch"].__name__ == "siliconflow_batch_task"


def test_every_named_module_exists() -> None:
    information = siliconflow_provider.get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for module in information[kind][0]["python-modules"]:
            assert import_module(module)


def test_there_is_one_version_number() -> None:
    assert version("airflow-provider-siliconflow") == siliconflow_provider.__version__
    changes = (Path(__file__).parent.parent / "CHANGELOG.md").read_text()
    assert f"## {siliconflow_provider.__version__}" in changes
