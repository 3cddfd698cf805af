#!/usr/bin/env bash
# Make a virtual environment with one Airflow: environment.sh DIRECTORY AIRFLOW REQUIREMENT...
# PYTHON names the interpreter; otherwise the first one that fits is taken. uv installs when it is there, else pip.
set -euo pipefail

directory=$1 airflow=$2
shift 2
versions="3.11 3.12 3.13"
case $airflow in lowest | 2.* | 3.0) versions="3.11 3.12" ;; esac

fits() {
    "$1" -c 'import ensurepip, sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $versions 2>/dev/null
}

candidates=${PYTHON:-python3 python3.13 python3.12 python3.11}
found=
for candidate in $candidates; do
    if fits "$candidate"; then
        found=$candidate
        break
    fi
done
if [[ -z $found ]]; then
    echo "Airflow $airflow needs Python ${versions// / or } with its venv module, and none of these is that:" \
        "${candidates// /, }. Install one, or name it: make PYTHON=/path/to/python ..." >&2
    exit 1
fi

echo "Making $directory: Airflow $airflow on $("$found" --version)"
"$found" -m venv --clear "$directory"
install=("$directory/bin/python" -m pip install --disable-pip-version-check)
if uv --version >/dev/null 2>&1; then install=(uv pip install --compile-bytecode --python "$directory/bin/python"); fi
"${install[@]}" --quiet --constraint "constraints/airflow-$airflow.txt" "$@"
