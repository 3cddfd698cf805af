"""The command line: `python -m siliconflow_provider`, and `airflow siliconflow` from Airflow 3.2 on.

In: arguments. Out: text on the standard output, one sentence on the standard error output if a command fails, and an
exit code. Start reading at `program.py`; `commands.py` lists the commands, and each has a module of its name.
"""

from __future__ import annotations

from siliconflow_provider.cli.program import main

__all__ = ["main"]
