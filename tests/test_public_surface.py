"""The modules and names that users import. A name leaves this list only with an entry in the CHANGELOG."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from inspect import getmembers, isclass
from pathlib import Path
from typing import Any

import pytest

from siliconflow_provider import exceptions, get_provider_info, results
from siliconflow_provider.emulator.pytest_plugin import siliconflow_emulator, siliconflow_emulator_options

NAME = "siliconflow_provider"
PACKAGE = Path(__file__).parent.parent / NAME
SURFACE = {
    "operators.batches": {"CancelBatchOperator", "CreateBatchOperator", "DownloadResultsOperator"},
    "operators.files": {"UploadFileOperator"},
    "operators.inference": {"BatchInferenceOperator"},
    "sensors.batches": {"BatchSensor"},
    "triggers.batches": {"BatchTrigger"},
    "triggers.events": {"BatchEventTrigger"},
    "hooks.siliconflow": {"SiliconFlowHook"},
    "links": {"BatchesLink", "ReportLink"},
}
OTHER_NAMES = [
    ("", "__version__"),
    ("", "get_provider_info"),
    ("decorators.inference", "siliconflow_batch_task"),
    ("results", "read_results"),
    ("results", "ResultRow"),
    ("results", "to_arrow"),
    ("results", "to_batches"),
    ("results", "to_pandas"),
    ("api.client", "SiliconFlowClient"),
    ("emulator.server", "Emulator"),
    ("emulator.server", "EmulatorOptions"),
    ("emulator.control", "Control"),
]
# A line of the tree: branches, the class, its further bases, and its meaning.
LINE = re.compile(r"(?P<branches>[│├└─ ]*)(?P<name>\w+)(?: \((?P<bases>[\w, ]+)\))? {2,}(?P<meaning>\S.*)")


def tree() -> list[re.Match[str]]:
    """Return the lines of the tree in the docstring of `exceptions`."""
    lines = (exceptions.__doc__ or "").strip().splitlines()[2:]
    matches = [LINE.fullmatch(line) for line in lines]
    assert None not in matches, lines[matches.index(None)]
    return [match for match in matches if match is not None]


def defined_errors() -> set[str]:
    """Return the exception classes that the modules of the package define, without those that no caller meets."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in ("emulator", "plugins"):
            continue
        module = ".".join((NAME, *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.bases:
                defined = getattr(import_module(module), node.name, None)
                if isclass(defined) and issubclass(defined, BaseException):
                    found.add(node.name)
    return found


@pytest.mark.parametrize("module", sorted(SURFACE))
def test_module_defines_exactly_its_public_classes(module: str) -> None:
    loaded = import_module(f"{NAME}.{module}")
    own = {name for name, value in getmembers(loaded, isclass) if value.__module__ == loaded.__name__}
    assert {name for name in own if not name.startswith("_")} == SURFACE[module]


@pytest.mark.parametrize(("module", "name"), OTHER_NAMES)
def test_public_name_exists(module: str, name: str) -> None:
    assert hasattr(import_module(f"{NAME}.{module}".rstrip(".")), name)


def test_provider_info_names_public_modules_only() -> None:
    information = get_provider_info()
    kinds = ("hooks", "operators", "sensors", "triggers")
    modules = [module for kind in kinds for entry in information[kind] for module in entry["python-modules"]]
    assert {module.removeprefix(f"{NAME}.") for module in modules} == set(SURFACE) - {"links"}
    assert [entry["class-name"] for entry in information["task-decorators"]] == [
        f"{NAME}.decorators.inference.siliconflow_batch_task"
    ]
    assert information["extra-links"] == [f"{NAME}.links.BatchesLink", f"{NAME}.links.ReportLink"]


def test_emulator_fixtures_have_their_names(pytestconfig: pytest.Config) -> None:
    plugin = pytestconfig.pluginmanager.get_plugin("siliconflow")
    assert plugin is not None
    assert plugin.siliconflow_emulator is siliconflow_emulator
    assert plugin.siliconflow_emulator_options is siliconflow_emulator_options


def test_results_exports_readers_and_row() -> None:
    assert results.__all__ == ["ResultRow", "read_results", "to_arrow", "to_batches", "to_pandas"]
    assert results.ResultRow is import_module(f"{NAME}.outputs").ResultRow


def test_exceptions_exports_the_tree() -> None:
    assert sorted(line["name"] for line in tree()) == exceptions.__all__ == sorted(set(exceptions.__all__))


def test_tree_has_every_error_of_the_package() -> None:
    assert defined_errors() == set(exceptions.__all__)


def test_tree_shows_the_bases() -> None:
    parents: list[str] = []
    for line in tree():
        depth = len(line["branches"]) // 4
        error = getattr(exceptions, line["name"])
        parents[depth:] = [line["name"]]
        drawn = {*parents[max(depth - 1, 0) : depth], *re.findall(r"\w+", line["bases"] or "")}
        assert {base.__name__ for base in error.__bases__} - {"Exception"} == drawn, line["name"]


@pytest.mark.parametrize("name", exceptions.__all__)
def test_exported_error_is_the_defining_one(name: str) -> None:
    error: Any = getattr(exceptions, name)
    assert getattr(import_module(error.__module__), name) is error


@pytest.mark.parametrize("module", [exceptions, results])
def test_unknown_name_is_an_attribute_error(module: Any) -> None:
    with pytest.raises(AttributeError, match=rf"module '{module.__name__}' has no attribute 'NoError'"):
        _ = module.NoError
