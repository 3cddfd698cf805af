from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "siliconflow_provider"


def test_importing_operators_loads_nothing_heavy() -> None:
    """DAG files are parsed every few seconds: what a task needs is imported when it runs."""
    modules = [
        "operators.batches",
        "operators.files",
        "operators.inference",
        "sensors.batches",
        "results",
        "exceptions",
    ]
    heavy = [
        "requests",
        "requests_toolbelt",
        "airflow.triggers.base",
        "siliconflow_provider.jobs",
        "asyncio.runners",
        "pydantic",
    ]
    program = (
        "import importlib, sys, airflow.providers.common.compat.sdk as sdk\n"
        "sdk.BaseSensorOperator, sdk.BaseHook, sdk.XCom\n"
        "before = set(sys.modules)\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(f'siliconflow_provider.{module}')\n"
        f"    print('loads', module, [name for name in {heavy!r} if name in set(sys.modules) - before])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loads = [line for line in done.stdout.splitlines() if line.startswith("loads")]
    assert loads == [f"loads {module} []" for module in modules]
