from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "siliconflow_provider"

# What a layer may import of the package; a layer that is not named here may import everything but the emulator.
ALLOWED = {
    "api": {"api"},
    "jsonl": set(),
    "job_directory": {"api"},
    "storage": {"api", "job_directory", "jsonl", "storage"},
    "inputs": {"api", "inputs", "jsonl"},
    "batches": {"api", "batches", "job_directory"},
    "outputs": {"api", "job_directory", "jsonl", "outputs"},
    "jobs": {"api", "batches", "inputs", "job_directory", "jobs", "jsonl", "outputs"},
    "emulator": {"emulator"},
    "exceptions": set(),
    "hooks": {"api", "exceptions", "hooks"},
    "links": set(),
    "verdicts": {"api", "batches", "exceptions"},
    "triggers": {"api", "batches", "exceptions", "hooks", "triggers", "verdicts"},
}


def imported_modules(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    imported = imported_modules(path)
    layers = {each.split(".")[1] for each in imported if each.startswith("siliconflow_provider.")}
    assert layers <= ALLOWED.get(layer, layers - {"emulator"})
    if layer in ("api", "batches", "emulator", "inputs", "job_directory", "jobs", "jsonl", "outputs"):
        assert not [each for each in imported if each.split(".")[0] == "airflow"]


def test_importing_operators_loads_nothing_heavy() -> None:
    """DAG files are parsed every few seconds: what a task needs is imported when it runs."""
    modules = ["operators.batches", "operators.files", "operators.inference", "sensors.batches", "results"]
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
