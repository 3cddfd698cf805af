"""What `python -m build` makes of the project; `make wheel` installs it into a clean Airflow."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def modules(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in (root / "siliconflow_provider").rglob("*.py")}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the source distribution and the wheel that was built from it, on the build tools at hand."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_the_wheel_holds_the_package_and_nothing_else(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == modules(ROOT)


def test_the_source_distribution_holds_what_builds_the_wheel(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert modules(ROOT) | {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"} <= names
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"siliconflow_provider", "tests", "example_dags"}
