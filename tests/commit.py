"""At which commit the code was tried, for pages that say what was run."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def tried_commit() -> str:
    """Return the commit of this checkout in words, and whether the code has been changed since."""
    found = _git("rev-parse", "--short=7", "HEAD")
    if not found:
        return "an unknown commit"
    return f"commit {found}{' with changes' if _git('status', '--porcelain', '--', '*.py') else ''}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
