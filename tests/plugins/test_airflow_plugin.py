from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

from airflow.providers.common.compat.sdk import BaseOperator
from fastapi import FastAPI
from fastapi.testclient import TestClient

from siliconflow_provider import get_provider_info
from siliconflow_provider.links import ReportLink
from siliconflow_provider.plugins.airflow_plugin import LazyApp, SiliconFlowPlugin

ROOT = Path(__file__).parent.parent.parent


def test_airflow_finds_the_plugin_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (named,) = project["entry-points"]["airflow.plugins"].values()
    assert named == f"{SiliconFlowPlugin.__module__}:{SiliconFlowPlugin.__name__}"
    SiliconFlowPlugin.validate()
    assert "plugins" not in get_provider_info()


def test_views_lead_to_the_mounted_app() -> None:
    (app,) = SiliconFlowPlugin.fastapi_apps
    for view in SiliconFlowPlugin.external_views:
        assert f"/{view['href']}".startswith(f"{app['url_prefix']}/")
    assert {view["destination"] for view in SiliconFlowPlugin.external_views} == {"nav", "task_instance"}


def test_loading_the_plugin_builds_no_app() -> None:
    """Every component of Airflow loads plugins, also workers and the scheduler."""
    program = (
        "import airflow.plugins_manager, sys; before = set(sys.modules)\n"
        "import siliconflow_provider.plugins.airflow_plugin\n"
        "print('loads', [name for name in set(sys.modules) - before if 'fastapi' in name or name == 'requests'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "loads []"


def test_the_first_request_builds_the_app(airflow: None) -> None:
    server = FastAPI()
    server.mount("/siliconflow", LazyApp())
    assert TestClient(server).get("/siliconflow/batches").status_code == 401


def test_the_report_link_leads_to_a_page(airflow: None) -> None:
    server = FastAPI()
    server.mount("/siliconflow", LazyApp())
    operator = BaseOperator(task_id="create")
    ReportLink.show(operator, {"report_path": "s3://bucket/report.html"})
    task = SimpleNamespace(dag_id="nightly", task_id="create", map_index=-1, run_id="manual__2026-05-01/a")
    link = ReportLink().get_link(operator, ti_key=task)
    asked, unknown = (TestClient(server).get(f"/{path}") for path in (link, f"{link.replace('report', 'none')}"))
    assert (asked.status_code, unknown.status_code) == (401, 404)
