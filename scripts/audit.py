"""Ask pip-audit for known vulnerabilities of what the wheel requires: audit.py PIP-AUDIT NAME=SITE-PACKAGES...

Each folder is one in which the wheel was installed alone. PIP_AUDIT_VULNERABILITY_SERVICE names another service than
the default of pip-audit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

# They are not required, or are what is audited here.
LEFT_OUT = ("airflow-provider-siliconflow", "pip", "setuptools", "uv")
# What pip-audit says where it has asked nobody.
NOBODY_ASKED = ("could not be audited", "ConnectionError", "ConnectTimeout", "ServiceError")


def requirements(folder: str) -> list[str]:
    """Return what is installed in a folder, as pins."""
    found = {each.name.lower(): each.version for each in distributions(path=[folder])}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in LEFT_OUT]


def audit(pip_audit: str, name: str, folder: str) -> str:
    """Return what is wrong with what is installed in a folder; nothing when the text is empty."""
    pins = requirements(folder)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "requirements.txt"
        path.write_text("\n".join(pins) + "\n")
        command = [pip_audit, "--strict", "--disable-pip", "--no-deps", "--progress-spinner=off", "--requirement", path]
        done = subprocess.run(command, capture_output=True, text=True)
    if not done.returncode:
        print(f"{name}: {len(pins)} packages, none has a known vulnerability")
        return ""
    if any(each in done.stderr for each in NOBODY_ASKED):
        return f"{name}: {len(pins)} packages are left to audit where a vulnerability service answers; none did here"
    return f"{name}:\n{done.stdout}{done.stderr}"


def main(pip_audit: str, folders: list[str]) -> int:
    """Print what was found, and return 1 when it is not nothing."""
    problems = [audit(pip_audit, *each.split("=", 1)) for each in folders]
    print(*filter(None, problems), sep="\n")
    return int(any(problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
