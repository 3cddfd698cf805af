from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.app import init_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
from fastapi import FastAPI
from fastapi.testclient import TestClient

from siliconflow_provider.api.client import SiliconFlowClient
from siliconflow_provider.api.models import Batch
from siliconflow_provider.batches import Submission, digest
from siliconflow_provider.plugins import PREFIX
from siliconflow_provider.plugins.app import create_app
from siliconflow_provider.plugins.tasks import TaskInstance

ORIGIN = "http://airflow.test"
# Two DAGs that Airflow knows; only admins may see the second one.
DAGS = ("nightly", "secret")


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch, dags_folder: Path) -> Iterator[None]:
    """Airflow's settings, and its database with DAGS."""
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.plugins.auth.PartialAuthManager")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of these tests " * 4)
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", "another secret of these tests")
    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
        session.flush()
        for dag_id in DAGS:
            session.merge(DagModel(dag_id=dag_id, bundle_name="tests"))
    yield
    purge_cached_app()


@pytest.fixture
def app(airflow: None) -> FastAPI:
    """An API server that has nothing but the pages."""
    server = FastAPI()
    server.mount(PREFIX, create_app())
    init_auth_manager(server)
    return server


@pytest.fixture
def browser_of(app: FastAPI) -> Callable[..., TestClient]:
    """Makes the browser of a user with a role of the simple auth manager: viewer, user, op or admin."""

    def open_browser(role: str = "op", name: str = "ann") -> TestClient:
        token = app.state.auth_manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role))
        return TestClient(app, base_url=ORIGIN, cookies={"_token": token}, follow_redirects=False)

    return open_browser


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    """A browser without a cookie."""
    return TestClient(app, base_url=ORIGIN, follow_redirects=False)


@pytest.fixture
def submit(client: SiliconFlowClient, sums: Callable[[int], bytes], tmp_path: Path) -> Callable[..., Batch]:
    """Creates a batch of 3 requests as a task instance does, or as somebody else."""

    def create(task: TaskInstance | None = None, deployment: str = "", **metadata: str) -> Batch:
        path = tmp_path / "requests.jsonl"
        path.write_bytes(sums(3))
        pairs = metadata
        if task is not None:
            run_key = digest(deployment, task.dag_id, task.run_id)
            submission = Submission("key", "file", run_key=run_key, label=task.label, metadata=metadata, round=1)
            pairs = submission.batch_metadata()
        return client.create_batch(client.upload_file(path).id, metadata=pairs)

    return create
