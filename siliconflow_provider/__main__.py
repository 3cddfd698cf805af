"""The command line: `python -m siliconflow_provider`."""

from __future__ import annotations

import sys

from siliconflow_provider.cli import main

if __name__ == "__main__":
    sys.exit(main())
