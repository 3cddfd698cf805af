"""The pytest fixture `siliconflow_emulator`. Every pytest run loads this module, so its imports are in functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from siliconflow_provider.emulator.server import Emulator, EmulatorOptions


@pytest.fixture
def siliconflow_emulator_options() -> dict[str, Any]:
    """Return options of `siliconflow_emulator`, fields of EmulatorOptions. Override this fixture to set them."""
    return {}


@pytest.fixture
def siliconflow_emulator(
    siliconflow_emulator_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """Run a SiliconFlow emulator with its `control`. The Airflow connection `siliconflow_default` leads to it.

    Its phases take no time: a batch has ended at the first poll. The provider's pauses around a create, which wait for
    a real service's list, take no time either. `dag.test()` works for DAGs outside of the dags folder, too.
    """
    options = _options(tmp_path / "siliconflow-emulator", siliconflow_emulator_options)
    from siliconflow_provider.emulator.server import Emulator

    with Emulator(options) as emulator:
        monkeypatch.setenv("AIRFLOW_CONN_SILICONFLOW_DEFAULT", json.dumps(emulator.airflow_connection))
        monkeypatch.setattr("siliconflow_provider.batches.creation.LIST_LAG_SECONDS", 0)
        monkeypatch.setattr("siliconflow_provider.batches.creation.SEARCH_PAUSES", ((0,), (0,)))
        # By name, as above: the emulator imports nothing of the rest.
        import_module("siliconflow_provider.dag_testing").let_any_dag_be_tested(monkeypatch)
        yield emulator


def _options(data_dir: Path, given: dict[str, Any]) -> EmulatorOptions:
    from siliconflow_provider.emulator.errors import MissingExtraError

    try:
        from siliconflow_provider.emulator.server import EmulatorOptions
    except MissingExtraError as error:
        pytest.fail(f"siliconflow_emulator: {error}", pytrace=False)
    names = EmulatorOptions.__dataclass_fields__
    if unknown := [name for name in given if name not in names]:
        pytest.fail(
            f"siliconflow_emulator_options: there is no option {unknown[0]!r}; there are {', '.join(names)}",
            pytrace=False,
        )
    phases = {f"{phase}_seconds": 0.0 for phase in ("queue", "run", "finalize", "cancel")}
    return EmulatorOptions(**{"data_dir": data_dir, "control": True, **phases, **given})
