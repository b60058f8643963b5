#!/bin/sh
# Runs the sample calls in a directory that is gone afterwards.
set -eu
convgroups=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
calls=$(cd "$(dirname "$0")" && pwd)/calls.ndjson
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"

echo "Six calls of one user, each through a fresh sandbox, on SQLite:"
echo
"$convgroups" run "$calls" --output table
echo
echo "What listeners of that user are told:"
echo
"$convgroups" events --user alice --output table
