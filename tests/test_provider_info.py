from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
from airflow.providers_manager import ProvidersManager

import siliconflow_provider


def test_it_is_what_the_installed_airflow_asks_for() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    jsonschema.validate(siliconflow_provider.get_provider_info(), schema)


def test_airflow_finds_the_provider_by_its_entry_point() -> None:
    (found,) = [
        each
        for each in entry_points(group="apache_airflow_provider")
        if each.dist.name == "airflow-provider-siliconflow"
    ]
    assert found.load()() == siliconflow_provider.get_provider_info()
    assert ProvidersManager().providers["airflow-provider-siliconflow"].version == siliconflow_provider.__version__


def test_airflow_knows_the_connection_type() -> None:
    hook = ProvidersManager().hooks["siliconflow"]
    assert hook is not None
    assert hook.hook_name == "SiliconFlow"


def test_every_named_module_exists() -> None:
    information = siliconflow_provider.get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for module in information[kind][0]["python-modules"]:
            assert import_module(module)


def test_there_is_one_version_number() -> None:
    assert version("airflow-provider-siliconflow") == siliconflow_provider.__version__
    changes = (Path(__file__).parent.parent / "CHANGELOG.md").read_text()
    assert f"## {siliconflow_provider.__version__}" in changes
