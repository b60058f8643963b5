#!/bin/sh
# The words of the project: spelling, and the phrases of refused.txt. Needs Python 3, or typos of the version in requirements.txt.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
version=$(sed -n 's/^typos==\([0-9.]*\).*/\1/p' "$here/requirements.txt")

# A typos of the right version that is installed is used, as on systems that there is no wheel for.
if [ "$(typos --version 2> /dev/null)" != "typos-cli $version" ]; then
    venv=${CARGO_TARGET_DIR:-$root/target}/words-tools
    # Installed again if another version is asked for.
    if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
            -r "$here/requirements.txt"
        cp "$here/requirements.txt" "$venv/installed.txt"
    fi
    PATH=$venv/bin:$PATH
fi

cd "$root"
typos --config "$here/typos.toml"

found=0
tab=$(printf '\t')
while IFS=$tab read -r phrase instead; do
    case $phrase in '#'* | '') continue ;; esac
    if git grep -nIiE "$phrase" -- '*.md' '*.rs' '*.wit' '*.toml' '*.sh' '*.sql' Makefile ':!tests/words' ':!*.zh-CN.md'; then
        echo "refused: /$phrase/; instead: $instead" >&2
        found=1
    fi
done < "$here/refused.txt"
exit $found
