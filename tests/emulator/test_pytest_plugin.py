"""The fixture as users get it: in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = "pytester"

MODULE = "siliconflow_provider.emulator.pytest_plugin"
ROOT = Path(__file__).parent.parent.parent
INSTALLED = [each.value for each in entry_points(group="pytest11") if each.name == "siliconflow"]


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs a test file in a pytest of its own, with the plugin found by its entry point where that is installed."""

    def run(text: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        options = [] if INSTALLED else ["-p", MODULE]
        return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", *options)

    return run


def test_the_entry_point_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"siliconflow": MODULE}
    assert INSTALLED in ([], [MODULE])


def test_to_load_the_plugin_loads_nothing_else() -> None:
    program = f"import sys, pytest, json; before = set(sys.modules); import {MODULE}; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip("{}\n").replace("'", "").split(", ")
    assert sorted(loaded) == ["siliconflow_provider", "siliconflow_provider.emulator", MODULE]


def test_the_connection_leads_to_an_emulator_whose_batches_are_over_at_once(run) -> None:
    result = run(
        """
        import json, os
        from siliconflow_provider.api.client import SiliconFlowClient

        REQUEST = {"model": "deepseek-ai/DeepSeek-V3", "messages": [{"role": "user", "content": "What is 6 * 7?"}]}

        def client():
            connection = json.loads(os.environ["AIRFLOW_CONN_SILICONFLOW_DEFAULT"])
            assert connection["conn_type"] == "siliconflow"
            return SiliconFlowClient(connection["password"], connection["host"], max_retries=2)

        def test_over_at_once(siliconflow_emulator, tmp_path):
            (tmp_path / "requests.jsonl").write_text(json.dumps({"custom_id": "q", "body": REQUEST}))
            siliconflow_emulator.control.fault("GET /batches/{id}", status=503, retry_after=0)
            file = client().upload_file(tmp_path / "requests.jsonl")
            batch = client().create_batch(file.id)
            assert client().get_batch(batch.id).status == "completed"
            assert siliconflow_emulator.control.executions().most == 1
            assert siliconflow_emulator.data_dir.parent == tmp_path

        def test_each_test_has_its_own(siliconflow_emulator):
            assert list(client().list_batches()) == []

        def test_others_have_none():
            assert "AIRFLOW_CONN_SILICONFLOW_DEFAULT" not in os.environ
        """
    )
    result.assert_outcomes(passed=3)


def test_options_can_be_overridden(run) -> None:
    result = run(
        """
        import pytest
        from siliconflow_provider.emulator.forms import Forms

        @pytest.fixture
        def siliconflow_emulator_options():
            return {"run_seconds": 60, "forms": Forms(result_ids=True)}

        def test_options(siliconflow_emulator):
            options = siliconflow_emulator.options
            assert (options.run_seconds, options.queue_seconds, options.control) == (60, 0, True)
            assert options.forms.result_ids
        """
    )
    result.assert_outcomes(passed=1)


def test_an_unknown_option_is_named(run) -> None:
    result = run(
        """
        import pytest

        @pytest.fixture
        def siliconflow_emulator_options():
            return {"speed": 2}

        def test_options(siliconflow_emulator):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*siliconflow_emulator_options: there is no option 'speed'; there are data_dir, *"])


def test_a_missing_extra_is_a_sentence(run) -> None:
    result = run(
        """
        import sys
        sys.modules["uvicorn"] = None

        def test_options(siliconflow_emulator):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*needs uvicorn, which is not installed: pip install 'airflow-provider-siliconflow[[]emulator]'"]
    )
    assert "Traceback" not in result.stdout.str()
