"""Check the distributions that `python -m build` creates; `make wheel` installs them into a clean Airflow."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def files(folder: str, pattern: str = "*") -> set[str]:
    paths = [path for path in (ROOT / folder).rglob(pattern) if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(ROOT)) for path in paths}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the source distribution and the wheel, built with the installed build tools."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def wheel(distributions: Path) -> Iterator[zipfile.ZipFile]:
    (path,) = distributions.glob("*.whl")
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture
def unpacked(distributions: Path, tmp_path: Path) -> Path:
    """Return the folder of the unpacked source distribution."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    return folder


def test_the_wheel_holds_package_and_examples_only(wheel: zipfile.ZipFile) -> None:
    """Airflow 3.3 searches example DAGs in a module that is named after the distribution."""
    package = files("siliconflow_provider", "*.py") | {"siliconflow_provider/py.typed"}
    examples = {f"airflow_provider_siliconflow/{name}" for name in files("example_dags")}
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == package | examples | {"airflow_provider_siliconflow/__init__.py"}


def test_the_index_page_has_absolute_links_only(wheel: zipfile.ZipFile) -> None:
    """The repository's README has relative links to existing files."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    page = email.message_from_bytes(wheel.read(name)).get_payload()
    link = re.compile(r"(?<=\]\()[^)#]+")
    relative = [
        target for target in link.findall((ROOT / "README.md").read_text()) if not target.startswith("https://")
    ]
    assert relative
    assert [target for target in relative if not (ROOT / target).exists()] == []
    absolute = link.findall(page)
    assert [target for target in absolute if not target.startswith("https://")] == []
    assert [target for target in relative if not any(there.endswith(f"/main/{target}") for there in absolute)] == []


def test_the_source_distribution_includes_the_tests(unpacked: Path) -> None:
    folders = ["airflow_provider_siliconflow", "benchmarks", "constraints", "docs", "example_dags", "scripts", "tests"]
    wanted = set().union(*map(files, [*folders, "siliconflow_provider"]))
    wanted |= {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "mkdocs.yml"}
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert wanted <= found
    assert {name for name in found - wanted if not re.fullmatch(r"[A-Z]+\.md", name)} <= {"PKG-INFO", ".gitignore"}


def test_tests_pass_in_the_source_distribution(unpacked: Path) -> None:
    """Run the tests that read files outside of the package."""
    chosen = ["tests/test_layers.py", "tests/docs/test_reference.py", "-k", "circle or arguments"]
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=unpacked, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
