"""The example DAGs, in the wheel: with `load_examples`, Airflow 3.3 looks for them in a module named after the
distribution. The provider itself is `siliconflow_provider`.
"""

from __future__ import annotations
