"""Files in `output_path` that belong to a user or to another task are not overwritten."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from siliconflow_provider.exceptions import JobDefinitionError, OutputPathError
from siliconflow_provider.operators.batches import DownloadResultsOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.outputs.ownership import OutputConflictError, OutputDirectory
from siliconflow_provider.storage.object_storage import storage_path
from siliconflow_provider.storage.workspace import Workspace

Infer = Callable[..., BatchInferenceOperator]
TEXTS = ["What is 1 + 1?"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture(params=["results.jsonl", "manifest.json"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_users_file_stops_before_sending(infer: Infer, run, client, out: Path, name: str) -> None:
    (out / name).write_text("mine")
    with pytest.raises(OutputPathError, match=rf"file://.*/out/{name} exists, but .*\nMove it away"):
        run(lambda: infer(requests=TEXTS))
    assert (client.list_files(), list(client.list_batches())) == ([], [])
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(name, "mine")]


def test_a_users_broken_link_is_a_file(infer: Infer, run, client, out: Path, name: str) -> None:
    (out / name).symlink_to(out / "nowhere")
    with pytest.raises(OutputPathError, match=rf"file://.*/out/{name} exists, but .*\nMove it away"):
        run(lambda: infer(requests=TEXTS))
    assert client.list_files() == []
    assert (out / name).is_symlink()


def test_the_same_in_object_storage(infer: Infer, run, client, object_store: str, name: str) -> None:
    directory = storage_path(f"{object_store}/{uuid.uuid4().hex}")
    directory.fs.pipe_file((directory / name).path, b"mine")
    with pytest.raises(OutputPathError, match=rf"{name} exists"):
        run(lambda: infer(requests=TEXTS, output_path=str(directory)))
    assert list(client.list_batches()) == []
    (directory / name).unlink()
    assert run(lambda: infer(requests=TEXTS, output_path=str(directory)))["rows"] == 1


def test_a_file_created_during_the_job_survives(infer: Infer, run, client, clock, out: Path, name: str) -> None:
    clock.after(60, lambda: (out / name).write_text("mine"))
    with pytest.raises(OutputPathError, match=f"{name} exists"):
        run(lambda: infer(requests=TEXTS))
    assert (out / name).read_text() == "mine"
    (out / name).unlink()
    assert run(lambda: infer(requests=TEXTS))["counts"] == {"succeeded": 1}
    assert len(list(client.list_batches())) == 1


@pytest.mark.parametrize("is_as_long", [False, True])
def test_results_that_somebody_has_changed_are_kept(infer: Infer, run, out: Path, name: str, is_as_long: bool) -> None:
    run(lambda: infer(requests=TEXTS))
    scored = "scored".ljust((out / name).stat().st_size if is_as_long else 0)
    (out / name).write_text(scored)
    with pytest.raises(OutputPathError, match=f"{name} exists, but this task"):
        run(lambda: infer(requests=TEXTS))
    assert (out / name).read_text() == scored


def corrected(path: ObjectStoragePath) -> bytes:
    """Correct an answer without changing the size of the file."""
    content: bytes = path.fs.cat_file(path.path).replace(b'"2"', b'"3"').replace(b"succeeded", b"confirmed")
    path.fs.pipe_file(path.path, content)
    return content


@pytest.mark.parametrize("name", ["results.jsonl", "manifest.json"])
@pytest.mark.parametrize("place", ["disk", "object store"])
def test_a_correction_that_leaves_the_size_is_kept(
    infer: Infer, run, client, context, object_store: str, out: Path, place: str, name: str
) -> None:
    directory = storage_path(out if place == "disk" else f"{object_store}/{uuid.uuid4().hex}")
    run(lambda: infer(requests=TEXTS, output_path=str(directory)))
    content = corrected(directory / name)
    for _ in range(2):
        with pytest.raises(OutputPathError, match=f"{name} exists, but this task"):
            run(lambda: infer(requests=TEXTS, output_path=str(directory)))
        context["ti"].clear()
    assert (directory / name).fs.cat_file((directory / name).path) == content
    assert len(list(client.list_batches())) == 1


def test_a_file_created_during_replacement_survives(out: Path, tmp_path: Path) -> None:
    output = OutputDirectory(Workspace(storage_path(out), tmp_path), "task")
    output.claim(is_ours=False)
    output.write_manifest({"counts": "succeeded"})
    output.claim(is_ours=False)
    content = corrected(storage_path(out / "manifest.json"))
    with pytest.raises(OutputConflictError, match=r"manifest\.json exists, but this task"):
        output.write_manifest({})
    assert (out / "manifest.json").read_bytes() == content


@pytest.mark.parametrize("published_id", ["..", ".", "../a", "a/b", "a\0", "", "a" * 999, 7])
def test_an_id_that_leads_elsewhere_names_no_copy(out: Path, tmp_path: Path, published_id: str) -> None:
    output = OutputDirectory(Workspace(storage_path(out), tmp_path), "task")
    (out / "results.jsonl").write_text("results")
    output.archive_replaced_files({"job_id": published_id}, "new")
    assert list(out.rglob("*")) == [out / "results.jsonl"]
    output.archive_replaced_files({"job_id": "batch_1"}, "new")
    assert (out / "_siliconflow" / "replaced" / "batch_1" / "results.jsonl").exists()


@pytest.mark.parametrize("content", [b"mine", b"", b"x" * 10], ids=str)
def test_users_files_are_detected_without_owner_record(infer: Infer, run, out: Path, name: str, content: bytes) -> None:
    """The record of the files that the task has written still exists."""
    run(lambda: infer(requests=TEXTS))
    (out / name).write_bytes(content.ljust((out / name).stat().st_size, b" ") if content else b"")
    (out / "_siliconflow" / "owner.json").unlink()
    with pytest.raises(OutputPathError, match=f"{name} exists, but this task"):
        run(lambda: infer(requests=TEXTS))
    assert (out / name).read_bytes().strip() == content


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "{}/../out", "relative", "symbolic link", "hard link"])
def test_an_input_among_outputs_is_rejected(
    infer: Infer, run, client, out: Path, tmp_path: Path, monkeypatch, spelling: str, name: str
) -> None:
    (out / name).write_text('{"q": "1 + 1"}\n')
    given = spelling.format(out) + f"/{name}"
    if spelling == "relative":
        monkeypatch.chdir(tmp_path)
        given = f"out/{name}"
    elif "link" in spelling:
        given = f"{tmp_path}/rows.jsonl"
        (os.symlink if spelling == "symbolic link" else os.link)(out / name, given)
    with pytest.raises(OutputPathError, match=rf"^input_path .* is the {name} that this task writes to output_path"):
        run(lambda: infer(input_path=given, prompt="{q}"))
    assert client.list_files() == []
    assert (out / name).read_text() == '{"q": "1 + 1"}\n'


def test_an_input_among_private_files_is_rejected(infer: Infer, run, client, out: Path) -> None:
    path = out / "_siliconflow" / "a" / "requests.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"q": "1 + 1"}\n')
    with pytest.raises(
        OutputPathError, match="is in _siliconflow/ below output_path, where the task keeps its own files"
    ):
        run(lambda: infer(input_path=str(path), prompt="{q}"))
    assert client.list_files() == []
    assert path.read_text() == '{"q": "1 + 1"}\n'


def test_an_input_in_object_storage_is_compared_too(infer: Infer, run, client, object_store: str) -> None:
    for given, said in (
        (f"{object_store}/x/results.jsonl", "is the results"),
        (f"{object_store}/x/_siliconflow/a", "is in"),
    ):
        with pytest.raises(OutputPathError, match=said):
            run(lambda given=given: infer(input_path=given, prompt="{q}", output_path=f"{object_store}/x"))


@pytest.mark.parametrize("name", ["requests.jsonl", "rows.jsonl", "job.json", "collected", "other/results.jsonl"])
def test_other_inputs_in_the_directory_are_unchanged(infer: Infer, run, out: Path, name: str) -> None:
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text('{"q": "1 + 1"}\n')
    assert run(lambda: infer(input_path=str(out / name), prompt="{q}"))["counts"] == {"succeeded": 1}
    assert (out / name).read_text() == '{"q": "1 + 1"}\n'


def test_the_results_of_a_download_are_no_jobs(infer: Infer, run, client, context, out: Path) -> None:
    """The opposite order is rejected too."""
    run(lambda: infer(requests=TEXTS))
    (batch,) = client.list_batches()
    context["ti"].task_id = "download"
    download = DownloadResultsOperator(task_id="download", batch_id=batch.id, output_path=str(out))
    with pytest.raises(
        OutputPathError, match=r"another task instance \(nightly/create/.*give each its own output_path"
    ):
        download.execute(context)
    shutil.rmtree(out)
    assert download.execute(context)["rows"] == 1
    context["ti"].task_id = "create"
    with pytest.raises(OutputPathError, match=r"another task instance \(nightly/download/"):
        run(lambda: infer(requests=TEXTS))


def test_a_job_of_an_earlier_version_resumes(infer: Infer, run, client, out: Path) -> None:
    """It has recorded neither the owner of the directory nor the files that it has written, and it wrote no report."""
    summary = run(lambda: infer(requests=TEXTS))
    (out / "report.html").unlink()
    (out / "_siliconflow" / "owner.json").unlink()
    shutil.rmtree(out / "_siliconflow" / "written")
    assert run(lambda: infer(requests=TEXTS)) == summary
    assert len(list(client.list_batches())) == 1


@pytest.mark.parametrize("damaged", ["owner.json", "job.json", "creates/*.json"])
def test_a_damaged_file_is_named_with_a_remedy(infer: Infer, run, client, context, out: Path, damaged: str) -> None:
    summary = run(lambda: infer(requests=TEXTS, max_rounds=2))
    (path,) = (out / "_siliconflow").glob(damaged)
    content = path.read_bytes()
    path.write_bytes(b"")
    (out / "manifest.json").rename(out / "moved")
    for _ in range(2):
        with pytest.raises(JobDefinitionError, match=rf"{path.name} cannot be read as .*: .*\nRestore the file"):
            run(lambda: infer(requests=TEXTS))
        context["ti"].clear()
    if damaged == "owner.json":
        path.unlink()
    else:
        path.write_bytes(content)
    assert run(lambda: infer(requests=TEXTS)) == summary
    assert len(list(client.list_batches())) == 1


def test_a_download_names_it_too(infer: Infer, run, client, context, tmp_path: Path) -> None:
    run(lambda: infer(requests=TEXTS))
    (batch,) = client.list_batches()
    (tmp_path / "other" / "_siliconflow").mkdir(parents=True)
    (tmp_path / "other" / "_siliconflow" / "owner.json").touch()
    download = DownloadResultsOperator(task_id="d", batch_id=batch.id, output_path=str(tmp_path / "other"))
    with pytest.raises(OutputPathError, match=r"owner\.json cannot be read as Owner: .*\nRestore the file"):
        download.execute(context)


FORGED = "x\n[2026-11-26] ERROR forged \x1b[2J\u202e"


@pytest.mark.parametrize("forged", ["owner.json", "job.json", "creates/*.json"])
def test_owner_names_cannot_forge_log_lines(infer: Infer, run, out: Path, forged: str) -> None:
    run(lambda: infer(requests=TEXTS))
    (path,) = (out / "_siliconflow").glob(forged)
    if path.parent.name == "creates":
        path.unlink()
        path.with_name(f"{FORGED}.json").write_text("{}")
        (out / "manifest.json").rename(out / "moved")
    else:
        (out / "_siliconflow" / "owner.json").unlink()
        path.write_text(
            json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), "task": FORGED, "key": "k"})
        )
    with pytest.raises((OutputPathError, JobDefinitionError), match="forged") as caught:
        run(lambda: infer(requests=TEXTS))
    assert r"x\n[2026-11-26] ERROR forged \x1b[2J\u202e" in str(caught.value)
    # Its own sentences have lines of their own; a name begins none.
    lines = str(caught.value).split("\n")
    assert [line for line in lines if not line.isprintable() or line.startswith("[2026-11-26]")] == []


@pytest.mark.parametrize("name", ["owner.json", "job.json"])
def test_a_name_of_any_length_is_cut(infer: Infer, run, out: Path, name: str) -> None:
    run(lambda: infer(requests=TEXTS))
    (out / "_siliconflow" / "owner.json").unlink()
    there = json.loads((out / "_siliconflow" / "job.json").read_text())
    (out / "_siliconflow" / name).write_text(json.dumps({**there, "key": "k", "task": "x" * 1_000_000}))
    with pytest.raises(OutputPathError, match=r"another task instance \(x+\.\.\. \([0-9,]+ more") as caught:
        run(lambda: infer(requests=TEXTS))
    assert len(str(caught.value)) < 5_000
