#!/usr/bin/env bash
# Run a command with its temporary files in memory, if there is room: in_memory.sh COMMAND...
# The tests write many thousands of small files, and most of their time would be waiting for the disk.
set -uo pipefail

parent=${TMPDIR:-/tmp}
free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
if ((${free:-0} > 4 * 1024 * 1024)); then parent=/dev/shm; fi
directory=$(mktemp -d "$parent/siliconflow-tests-XXXXXX") || exit 1
trap 'rm -rf "$directory"' EXIT
TMPDIR=$directory "$@"
