"""The tables of the pages say what the code says."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from siliconflow_provider import CONNECTION_FIELDS, CONNECTION_FORM, exceptions
from siliconflow_provider.api import errors
from siliconflow_provider.emulator.__main__ import main
from siliconflow_provider.emulator.answer_rules import Answer
from siliconflow_provider.emulator.control_api import HANDLERS
from siliconflow_provider.emulator.endpoints import ENDPOINTS
from siliconflow_provider.emulator.faults import KINDS, Fault
from siliconflow_provider.emulator.forms import MEANINGS
from siliconflow_provider.emulator.plans import Failing, Plan, Requests
from siliconflow_provider.emulator.rules import Rule
from siliconflow_provider.operators.batches import CancelBatchOperator, CreateBatchOperator, DownloadResultsOperator
from siliconflow_provider.operators.files import UploadFileOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results
from siliconflow_provider.sensors.batches import BatchSensor
from siliconflow_provider.triggers.events import BatchEventTrigger
from tests.docs.pages import ROOT, names_in, page

OPERATORS = page("docs/reference/operators.md")
RESULTS = page("docs/reference/results.md")
EMULATOR = page("docs/reference/emulator.md")
ASSETS = page("docs/guides/assets-and-lineage.md")
TROUBLESHOOTING = page("docs/guides/troubleshooting.md")
# A value in a message; it stands for nothing as well.
VALUE = "…"


def first_cells(rows: list[list[str]]) -> list[str]:
    return [name for row in rows for name in names_in(row[0])]


def own_arguments(operator: type[Any]) -> dict[str, Any]:
    """Return the defaults of the arguments that this package adds to those of Airflow's operators."""
    classes = [each for each in operator.__mro__ if each.__module__.startswith("siliconflow_provider.")]
    constructors = [inspect.unwrap(vars(each)["__init__"]) for each in classes if "__init__" in vars(each)]
    parameters = [each for constructor in constructors for each in inspect.signature(constructor).parameters.values()]
    return {each.name: each.default for each in reversed(parameters) if each.kind is each.KEYWORD_ONLY}


DOCUMENTED = (
    BatchInferenceOperator,
    UploadFileOperator,
    CreateBatchOperator,
    BatchSensor,
    DownloadResultsOperator,
    CancelBatchOperator,
)


@pytest.mark.parametrize("operator", DOCUMENTED)
def test_arguments_and_defaults_are_the_operators(operator: type[Any]) -> None:
    own = own_arguments(operator)
    rows = OPERATORS.table(operator.__name__)
    documented = {names_in(name)[0]: default for name, default, _ in rows}
    assert set(documented) == set(own)
    for name, default in own.items():
        if default is inspect.Parameter.empty:
            assert documented[name] == "required"
        else:
            assert eval(documented[name].strip("`"), {"timedelta": timedelta}) == default


def test_arguments_of_the_event_trigger_are_listed() -> None:
    parameters = inspect.signature(BatchEventTrigger.__init__).parameters
    shown = {names_in(name)[0]: default for name, default, _ in ASSETS.table("Start a DAG when a batch ends")}
    statuses = {"statuses": "all four"}
    assert shown == {
        name: statuses.get(name, f"`{json.dumps(each.default)}`".replace("null", "None"))
        for name, each in parameters.items()
        if name != "self"
    }


def test_templated_arguments_are_listed() -> None:
    (listed,) = re.findall(r"^These arguments are templates.*?\n\n", OPERATORS.text, re.MULTILINE | re.DOTALL)
    listed = listed.partition("Paths may")[0]
    fields = {name for operator in DOCUMENTED for name in operator.template_fields}
    assert set(names_in(listed)) - {"XComArg"} == fields


def test_connection_fields_are_those_of_the_form() -> None:
    rows = page("docs/reference/connection.md").table("Connection")
    extras = {names_in(stored)[0]: label for label, stored, _ in rows if stored.startswith("extra")}
    assert extras == {name: each["label"] for name, each in CONNECTION_FIELDS.items()}
    labels = {stored: label for label, stored, _ in rows if not stored.startswith("extra")}
    assert labels == CONNECTION_FORM["relabeling"]


@pytest.fixture
def run_job(run, connection: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the job of the first DAG, and return its summary."""
    rows = [{"id": "q1", "question": "12 + 30"}, {"id": "q2", "question": "6 * 7"}]
    return lambda **arguments: run(
        lambda: BatchInferenceOperator(
            task_id="answers",
            requests=rows,
            prompt="What is {question}?",
            id_column="id",
            model="deepseek-ai/DeepSeek-V3",
            output_path=str(tmp_path / "job"),
            **arguments,
        )
    )


@pytest.fixture
def job(run_job: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_job()


@pytest.fixture
def priced_job(run_job: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    return run_job(prices={"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}})


@pytest.mark.parametrize("name", ["docs/reference/results.md", "docs/tutorial.md"])
def test_the_documented_row_is_a_real_one(name: str, job: dict[str, Any]) -> None:
    (block,) = [each for each in page(name).blocks if each.title == "results.jsonl"]
    documented = json.loads(block.text)
    real = json.loads(Path(job["results_path"].removeprefix("file://")).read_text().splitlines()[0])
    assert list(real) == list(documented)
    assert real == {**documented, "batch_id": real["batch_id"]}


def test_fields_of_a_row_are_documented_in_order(job: dict[str, Any]) -> None:
    row = next(iter(read_results(job)))
    assert first_cells(RESULTS.table("A row")) == [each.name for each in msgspec.structs.fields(row)]


def test_each_status_is_documented() -> None:
    with pytest.raises(ValueError, match="there are") as error:
        list(read_results("nowhere", status="no such status"))
    allowed = str(error.value).rpartition("there are ")[2].split(", ")
    assert sorted(first_cells(RESULTS.table("Statuses"))) == sorted(allowed)


@pytest.mark.parametrize("heading", ["Summary", "manifest.json"])
def test_keys_of_summary_and_manifest_are_documented(
    heading: str, priced_job: dict[str, Any], run: Any, tmp_path: Path
) -> None:
    rows = {names_in(name)[0]: operator.strip("`") for name, operator, _ in RESULTS.table(heading)}
    batch_id = next(iter(read_results(priced_job))).batch_id
    download = run(
        lambda: DownloadResultsOperator(task_id="download", batch_id=batch_id, output_path=str(tmp_path / "download"))
    )
    for operator, summary in (("BatchInferenceOperator", priced_job), ("DownloadResultsOperator", download)):
        real = summary
        if heading == "manifest.json":
            real = json.loads(Path(summary["manifest_path"].removeprefix("file://")).read_text())
        assert set(real) == {name for name, of in rows.items() if of in ("both", operator)}


def test_reports_of_batches_have_the_documented_keys(priced_job: dict[str, Any]) -> None:
    manifest = json.loads(Path(priced_job["manifest_path"].removeprefix("file://")).read_text())
    documented = next(row[2] for row in RESULTS.table("manifest.json") if row[0] == "`batches`")
    (report,) = manifest["batches"]
    assert set(report) == set(names_in(documented))
    lengths = re.findall(r"`(\w+_seconds)`", RESULTS.section("manifest.json"))
    assert lengths == [each for each in report["timing"] if each.endswith("_seconds")]


def test_files_of_a_job_are_documented(job: dict[str, Any], tmp_path: Path) -> None:
    documented = {each.strip("/") for each in first_cells(RESULTS.table("Other files in the directory"))}
    real = {each.name for each in (tmp_path / "job" / "_siliconflow").iterdir()}
    assert real
    assert real <= documented


def test_exceptions_are_documented() -> None:
    documented = re.findall(
        r"^::: siliconflow_provider\.(?:exceptions|api\.errors)\.(\w+)$", page("docs/reference/api.md").text, re.M
    )
    classes = [
        name
        for module in (exceptions, errors)
        for name, each in vars(module).items()
        if inspect.isclass(each) and issubclass(each, Exception) and each.__module__ == module.__name__
    ]
    assert documented == classes


class TestEmulator:
    def test_options_of_the_command_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        shown = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
        assert set(first_cells(EMULATOR.table("Command line"))) == shown

    def test_fields_of_rules_and_plans(self) -> None:
        rules = [each.name for each in msgspec.structs.fields(Rule)]
        assert first_cells(EMULATOR.table("Once, unless told otherwise")) == rules
        plans = {each.name for each in msgspec.structs.fields(Plan)} - set(rules)
        assert set(first_cells(EMULATOR.table("Plans"))) == plans

    def test_fields_of_a_choice_and_of_failing(self) -> None:
        choice = [each.name for each in msgspec.structs.fields(Requests)]
        assert first_cells(EMULATOR.table("A choice of requests")) == choice
        (failing,) = [row[1] for row in EMULATOR.table("Plans") if row[0] == "`failing`"]
        assert set(names_in(failing)) == {each.name for each in msgspec.structs.fields(Failing)} - set(choice)

    def test_fields_of_an_answer(self) -> None:
        fields = {each.name for each in msgspec.structs.fields(Answer)}
        assert set(re.findall(r"^\| `(\w+)` \|", EMULATOR.section("Answers"), re.MULTILINE)) == fields | {"answers"}

    def test_kinds_and_fields_of_faults(self) -> None:
        common = {each.name for each in msgspec.structs.fields(Fault)}
        real = {tag: {each.name for each in msgspec.structs.fields(kind)} - common for tag, kind in KINDS.items()}
        rows = EMULATOR.table("Faults")
        assert {names_in(kind)[0]: set(names_in(fields)) for kind, fields, _ in rows} == real

    def test_endpoints_forms_and_control_paths(self) -> None:
        section = EMULATOR.section("Faults")
        assert [each for each in ENDPOINTS if f"| `{each}` |" not in section] == []
        assert dict(row for row in EMULATOR.table("Forms")) == {f"`{name}`": text for name, text in MEANINGS.items()}
        documented = first_cells(EMULATOR.table("Control over HTTP"))
        assert documented == [f"{method} /control{path}" for method, path in HANDLERS]


@cache
def texts_of_the_code() -> list[str]:
    """All texts of the package, with `…` for each value."""

    def text_of(node: ast.expr) -> Iterator[str]:
        if isinstance(node, ast.JoinedStr):
            parts = [VALUE if isinstance(each, ast.FormattedValue) else each.value for each in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%[srd]|%\.?\d*\w|\{\w+\}", VALUE, node.value)

    paths = [each for each in (ROOT / "siliconflow_provider").rglob("*.py") if "emulator" not in each.parts]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return [text for node in nodes if isinstance(node, ast.expr) for text in text_of(node)]


MESSAGES = re.findall(r"^`(.*)`$", TROUBLESHOOTING.prose, re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_is_one_of_the_code(message: str) -> None:
    found = [text for text in texts_of_the_code() if message in text]
    assert found, f"no text of the package has {message!r}: has it been reworded?"


def test_each_entry_says_what_to_do() -> None:
    entries = re.split(r"^### ", TROUBLESHOOTING.text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(MESSAGES) >= 20
    parts = ("- **Means:**", "- **Bill:**", "- **Do:**")
    assert [each.splitlines()[0] for each in entries if any(part not in each for part in parts)] == []
