"""The layout is the architecture: imports point downwards, in no circle, and only through a package's front door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "siliconflow_provider"
NAME = "siliconflow_provider"
# The packages and modules at the top, with those that each may import.
ALLOWED = {
    "jsonl": set(),
    "wording": set(),
    # Its tree shows the errors of these; they are imported when used.
    "exceptions": {"api", "batches", "inputs", "job_directory", "jobs", "outputs", "pricing", "storage"},
    "lineage": {"api"},
    "xcoms": {"api"},
    "links": {"xcoms"},
    "metrics": {"api"},
    "drawing": {"api", "wording"},
    "api": set(),
    "job_directory": {"api"},
    "storage": {"api", "job_directory", "jsonl", "wording"},
    "inputs": {"api", "jsonl", "wording"},
    "pricing": {"api", "jsonl", "wording"},
    "batches": {"api", "job_directory", "wording"},
    "waiting": {"api", "batches", "wording"},
    "outputs": {"api", "job_directory", "jsonl", "wording"},
    "report": {"api", "drawing", "job_directory", "outputs", "pricing", "wording"},
    "jobs": {
        *("api", "batches", "inputs", "job_directory", "jsonl", "outputs", "pricing", "report", "waiting", "wording"),
    },
    "verdicts": {"api", "exceptions", "pricing", "waiting", "wording"},
    "results": {"api", "job_directory", "outputs", "storage"},
    "hooks": {"api", "exceptions", "pricing", "storage", "wording"},
    "triggers": {"api", "batches", "exceptions", "hooks", "metrics", "verdicts", "waiting", "wording"},
    "operators": {
        *("api", "batches", "exceptions", "hooks", "inputs", "job_directory", "jobs", "jsonl"),
        *("lineage", "links", "metrics", "outputs", "pricing", "storage", "triggers", "verdicts", "waiting", "wording"),
        "xcoms",
    },
    "sensors": {"api", "exceptions", "hooks", "links", "operators", "verdicts", "waiting"},
    "decorators": {"operators"},
    "plugins": {
        *("api", "batches", "drawing", "exceptions", "hooks", "links", "outputs", "pricing", "storage", "wording"),
    },
    # The command line: what needs Airflow is imported when it is used.
    "cli": {
        *("api", "batches", "hooks", "inputs", "jobs", "jsonl"),
        *("operators", "outputs", "pricing", "storage", "wording"),
    },
    "__main__": {"cli"},
    "dag_testing": set(),
    "emulator": {"dag_testing"},
}
WITHOUT_AIRFLOW = {
    "api",
    "batches",
    "drawing",
    "emulator",
    "inputs",
    "job_directory",
    "jobs",
    "jsonl",
    "outputs",
    "pricing",
    "report",
    "waiting",
    "wording",
}
# Others import these from the package itself; of the rest, users and others import modules by their names.
WITH_FRONT_DOOR = {"batches", "inputs", "jobs", "outputs", "pricing", "report", "storage", "waiting"}
# The modules of `api` that others may import.
API = {
    *("client", "models", "errors", "limits", "durations", "clock", "recovery", "lenient_json"),
    *("service_texts", "redaction", "addresses", "remedies", "retry", "session"),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module below the package, such as `api.client`; that of the package itself is empty."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def imports_of(path: Path) -> Iterator[tuple[str, str | None]]:
    """Each import of a module of the package, below it, with the name that is taken from it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == NAME:
            for alias in node.names:
                module = node.module.removeprefix(NAME).removeprefix(".")
                inner = f"{module}.{alias.name}".removeprefix(".")
                yield (inner, None) if inner in NAMES else (module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == NAME:
                    yield alias.name.removeprefix(NAME).removeprefix("."), None


def each_module() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def test_every_package_has_its_place() -> None:
    assert {name.split(".")[0] for name in NAMES} - {""} == set(ALLOWED)


@each_module()
def test_imports_point_downwards(path: Path) -> None:
    own = name_of(path).split(".")[0]
    imported = {module.split(".")[0] for module, _ in imports_of(path)} - {own, ""}
    assert imported <= ALLOWED.get(own, set())


@each_module()
def test_imports_take_the_front_door(path: Path) -> None:
    own = name_of(path).split(".")[0]
    for module, name in imports_of(path):
        package, _, inner = module.partition(".")
        if package in WITH_FRONT_DOOR and package != own:
            assert inner == ""
            assert name in import_module(f"{NAME}.{package}").__all__
        if package == "api" and own != "api":
            assert inner in API


@pytest.mark.parametrize("package", sorted(WITH_FRONT_DOOR))
def test_front_doors_offer_only_what_is_used(package: str) -> None:
    used = {name for path in MODULES for module, name in imports_of(path) if module == package}
    assert set(import_module(f"{NAME}.{package}").__all__) == used


def test_modules_import_each_other_in_no_circle() -> None:
    # A package's own modules pass its front door by.
    graph = {
        name_of(path): {module for module, _ in imports_of(path)} - {name_of(path).split(".")[0]} for path in MODULES
    }
    TopologicalSorter(graph).prepare()


@each_module()
def test_only_the_outer_packages_know_airflow(path: Path) -> None:
    if name_of(path).split(".")[0] in WITHOUT_AIRFLOW:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        assert [each for each in modules if each.split(".")[0] == "airflow"] == []
