"""The example DAGs that the installed Airflow can run."""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

EXAMPLES = Path(__file__).parent.parent / "example_dags"
# They watch assets.
NEEDS_AIRFLOW_3 = ("when_a_batch_ends",)


def example_files(directory: Path = EXAMPLES) -> list[Path]:
    """Return the files in the order of their names."""
    files = sorted(directory.glob("*.py"))
    return [path for path in files if AIRFLOW_V_3_0_PLUS or path.stem not in NEEDS_AIRFLOW_3]
