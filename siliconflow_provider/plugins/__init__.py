"""Pages in Airflow's UI, on Airflow 3: the batches of an account, and those of a task instance.

In: requests of signed-in users to the API server. Out: HTML. Start reading at `app.py`; Airflow loads
`airflow_plugin.py`.
"""

from __future__ import annotations

# Airflow mounts the pages below this path.
PREFIX = "/siliconflow"
