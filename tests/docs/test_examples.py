"""Every Python example of README and docs/ runs as it is printed.

The title of a block says what it is: `dags/...` is a DAG file, `tests/...` are tests, `... (Airflow 3)` is a DAG file
that is loaded only, and any other title is a script.
The blocks of a page without a title are the body of one DAG. Paths of the examples lead to a temporary directory with
the JSON and CSV files that the page shows.
"""

from __future__ import annotations

import inspect
import json
import re
import sqlite3
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from siliconflow_provider.emulator.server import Emulator, EmulatorOptions
from siliconflow_provider.results import read_results
from tests.docs.pages import Block, Page, all_pages, page

# The first positional argument of `dag.test()` is `run_after` on Airflow 3, which leaves `ds` to the day of the test.
LOGICAL_DATE = "logical_date" if AIRFLOW_V_3_0_PLUS else "execution_date"
PYTHON = [(each, block) for each in all_pages() for block in each.blocks if block.language == "python"]
DAG_FILES = [(each, block) for each, block in PYTHON if block.title.startswith("dags/")]
TESTS = [
    (block, name)
    for _, block in PYTHON
    if block.title.startswith("tests/")
    for name in re.findall(r"^def (test_\w+)", block.text, re.MULTILINE)
]
AIRFLOW_3 = [block for _, block in PYTHON if block.title.endswith("(Airflow 3)")]
SCRIPTS = [
    (each, block)
    for each, block in PYTHON
    if block.title and not block.title.startswith(("dags/", "tests/")) and block not in AIRFLOW_3
]
FRAGMENTS = sorted({each.name for each, block in PYTHON if not block.title})
OPTIONS = pytest.StashKey[dict[str, Any]]()
DAG_OF_FRAGMENTS = """
import pendulum
from airflow.providers.common.compat.sdk import dag, task


@dag(schedule=None, start_date=pendulum.datetime(2025, 1, 1))
def {dag_id}():
{body}


{dag_id}()
"""

# What the pages say that a DAG prints.
PRINTED = {"first_batch": "12 + 30 = 42", "amounts": "total: 330.5", "nightly_eval": "addition      100.0%"}

Localize = Callable[[str], str]


@pytest.fixture
def options(tmp_path: Path) -> EmulatorOptions:
    """A batch is over when it is first asked for; Airflow, which waits for a sensor, knows no held clock."""
    phases = {f"{each}_seconds": 0.0 for each in ("queue", "run", "finalize", "cancel")}
    return EmulatorOptions(data_dir=tmp_path / "emulator", control=True, **phases)


@pytest.fixture
def localize(tmp_path: Path) -> Localize:
    """Let the paths of an example lead to this test's directory."""
    return partial(re.sub, r"(?:s3://bucket|/tmp|/data)/", f"{tmp_path}/files/")


@pytest.fixture
def files(tmp_path: Path, localize: Localize) -> Callable[[Page], None]:
    """Write the JSON and CSV files that a page shows with their path."""

    def write(shown: Page) -> None:
        for block in shown.blocks:
            if block.language in ("json", "csv") and "/" in block.title:
                path = Path(localize(block.title))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)

    return write


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create the database of the connection `warehouse`, with the tables that the pages show."""
    path = tmp_path / "warehouse.sqlite"
    (schema,) = [block for each in all_pages() for block in each.blocks if block.language == "sql"]
    with closing(sqlite3.connect(path)) as database:
        database.executescript(schema.text)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def dag_file_of(name: str) -> tuple[Page, Block]:
    """Return the DAG file of a module that an example imports."""
    return next((each, block) for each, block in DAG_FILES if block.title == f"dags/{name}.py")


def dag_of_fragments(dag_id: str, body: str) -> str:
    return DAG_OF_FRAGMENTS.format(dag_id=dag_id, body=textwrap.indent(body, "    "))


def run_dag(module: Any, name: str, day: int = 1) -> Any:
    run = getattr(module, name)().test(**{LOGICAL_DATE: pendulum.datetime(2025, 1, day, tz="UTC")})
    assert str(run.state).endswith("success")
    return run


def test_blocks_of_one_title_are_equal() -> None:
    """README and tutorial show the same first DAG."""
    texts: dict[str, set[str]] = {}
    for _, block in DAG_FILES:
        texts.setdefault(block.title, set()).add(block.text)
    assert [title for title, found in texts.items() if len(found) > 1] == []


@pytest.mark.parametrize("title", sorted({block.title for _, block in DAG_FILES}))
def test_each_dag_file_runs(
    title: str, dags_folder, load_dag_file, connection: str, warehouse, files, localize: Localize, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name = Path(title).stem
    shown, block = dag_file_of(name)
    files(shown)
    (dags_folder / f"{name}.py").write_text(localize(block.text))
    run_dag(load_dag_file(f"{name}.py"), name)
    assert list((tmp_path / "files").rglob("results.jsonl"))
    assert PRINTED.get(name, "") in capsys.readouterr().out


def test_the_example_of_reuse_pays_once(
    dags_folder, load_dag_file, connection: str, client, files, localize: Localize, tmp_path: Path
) -> None:
    """The next day has the same rows. Another test runs the DAG on the first day."""
    shown, block = dag_file_of("product_texts")
    files(shown)
    table = tmp_path / "files" / "products" / "2025-01-01.jsonl"
    for day in (2, 3):
        table.with_stem(f"2025-01-0{day}").write_bytes(table.read_bytes())
    (dags_folder / "product_texts.py").write_text(localize(block.text))
    module = load_dag_file("product_texts.py")
    for day in (2, 3):
        run_dag(module, "product_texts", day)
    assert len(list((tmp_path / "files" / "texts").rglob("results.jsonl"))) == 2
    assert len(list(client.list_batches())) == 1


@pytest.mark.parametrize("name", FRAGMENTS)
def test_fragments_of_a_page_are_one_dag(
    name: str, dags_folder, load_dag_file, connection: str, client, files, localize: Localize, tmp_path: Path
) -> None:
    shown = page(name)
    files(shown)
    dag_id = re.sub(r"\W", "_", f"fragments of {name}")
    body = "\n".join(block.text for block in shown.blocks if block.language == "python" and not block.title)
    text = dag_of_fragments(dag_id, body)
    (dags_folder / f"{dag_id}.py").write_text(localize(text).replace("poke_interval=300", "poke_interval=1"))
    run_dag(load_dag_file(f"{dag_id}.py"), dag_id)
    batches = list(client.list_batches())
    assert batches
    assert {each.status for each in batches} == {"completed"}
    outputs = re.findall(r'output_path="s3://bucket/(\w+)/', body) + re.findall(r'output_path="/data/(\w+)/', body)
    assert outputs
    for each in outputs:
        (results, *_) = (tmp_path / "files" / each).rglob("results.jsonl")
        assert results.read_text().count("\n") >= 2
    # The emulator echoes a prompt.
    answered = [row.content for path in (tmp_path / "files").rglob("results.jsonl") for row in read_results(path)]
    assert [prompt for prompt in re.findall(r"is asked as `(.*?)`", shown.prose) if prompt not in answered] == []


def test_the_examples_in_the_table_of_operators_are_one_dag(
    dags_folder, load_dag_file, connection: str, files, localize: Localize
) -> None:
    """The file of requests is that of the page on files."""
    files(page("docs/guides/files-and-tables.md"))
    files(page("docs/reference/operators.md"))
    examples = [re.findall(r"`(.*?)`", row[2])[0] for row in page("README.md").table("Operators")]
    assert len(examples) == 7
    lines = ["from siliconflow_provider.results import read_results"]
    for block in page("docs/reference/operators.md").blocks[:1]:
        lines += block.text.splitlines()
    for each in examples:
        lines.append(each)
        if each.startswith("@"):
            lines += ["def decorated():", "    return [{'text': 'a note'}]", "decorated()"]
    text = dag_of_fragments("operators", "\n".join(lines))
    (dags_folder / "operators.py").write_text(localize(text))
    run_dag(load_dag_file("operators.py"), "operators")


@pytest.mark.parametrize(("block", "name"), TESTS, ids=lambda each: each if isinstance(each, str) else each.title)
def test_each_printed_test_passes(
    block: Block, name: str, load_dag_file, files, localize: Localize, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of a DAG that is in no dags folder, under a name that Airflow has not met in other tests."""
    text = block.text
    for module in re.findall(r"^from (\w+) import \1$", text, re.MULTILINE):
        shown, dag_file = dag_file_of(module)
        files(shown)
        own_name = f"{module}_{name}"
        (tmp_path / f"{own_name}.py").write_text(localize(dag_file.text).replace(module, own_name))
        monkeypatch.setitem(sys.modules, own_name, load_dag_file(str(tmp_path / f"{own_name}.py")))
        text = re.sub(rf"\b{module}\b", own_name, text)
    names: dict[str, Any] = {}
    exec(compile(text.replace("@pytest.fixture\n", ""), block.title, "exec"), names)
    request.node.stash[OPTIONS] = names.get("siliconflow_emulator_options", dict)()
    test = names[name]
    test(**{each: request.getfixturevalue(each) for each in inspect.signature(test).parameters})


@pytest.fixture
def siliconflow_emulator_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options that the example gives with a fixture of this name."""
    return request.node.stash[OPTIONS]


def test_dag_files_of_airflow_3_load(dags_folder, load_dag_file) -> None:
    assert AIRFLOW_3
    for block in AIRFLOW_3 if AIRFLOW_V_3_0_PLUS else ():
        name = block.title.split()[0]
        (dags_folder / name).write_text(block.text)
        dag = getattr(load_dag_file(name), Path(name).stem)()
        assert dag.has_task("show")
        assert dag.timetable.asset_condition


@pytest.mark.parametrize(("shown", "block"), SCRIPTS, ids=lambda each: getattr(each, "title", None) or str(each))
def test_each_script_runs(
    shown: Page, block: Block, connection: str, emulator: Emulator, sums, localize: Localize, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its key is replaced by the emulator's, and `requests.jsonl` and a directory of results are there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requests.jsonl").write_bytes(sums(2))
    results = tmp_path / "files" / "results" / "run"
    results.mkdir(parents=True)
    (row,) = [each for each in page("docs/reference/results.md").blocks if each.title == "results.jsonl"]
    (results / "results.jsonl").write_text(row.text.replace("\n", "") + "\n")
    key = f"SiliconFlowClient({emulator.api_key!r}, {emulator.base_url!r})"
    exec(compile(localize(block.text).replace('SiliconFlowClient("sk-...")', key), block.title, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_every_python_block_is_run() -> None:
    """Blocks in a language that is not marked as Python look like Python to nobody."""
    assert len(PYTHON) == len(DAG_FILES) + len(AIRFLOW_3) + len(SCRIPTS) + sum(
        not block.title for _, block in PYTHON
    ) + len({(block.title, block.text) for block, _ in TESTS})
    unmarked = [
        block.text for each in all_pages() for block in each.blocks
        if block.language != "python" and re.search(r"^(?:import|from) \w+|^def |^@", block.text, re.MULTILINE)
    ]  # fmt: skip
    assert unmarked == []
