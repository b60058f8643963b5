#!/bin/sh
# Makes vectors.json anew: signatures by the two official generators, from PyPI and npm.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$PWD
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet tls-sig-api-v2==1.1
(cd "$work" && npm install --silent --no-save tls-sig-api-v2@1.0.2)
cp make.cjs "$work"
{
    "$work/python/bin/python" make.py
    (cd "$work" && node make.cjs)
} | python3 -c 'import json, sys; json.dump([json.loads(line) for line in sys.stdin], sys.stdout, indent=2); print()' > "$work/vectors.json"
mv "$work/vectors.json" "$here/vectors.json"
