#!/usr/bin/env bash
# Builds dist/crdt-redis, one static file that needs nothing of the machine it runs on, of the wheel (build_wheel.sh, which it runs),
# and beside it dist/crdt-redis.cdx.json, which says what went in. Two builds of one commit make the same bytes, if they are of the
# same versions (PIP_CONSTRAINT) and compiler; try_again.sh shows it.
#
# Needs on the machine that builds: gcc with the static C library and zlib (Debian: gcc libc6-dev zlib1g-dev), binutils, and a CPython
# 3.11 to 3.13 that has its shared library (PyInstaller wants it). PYTHON chooses the interpreter. All else goes into build/, which
# may be deleted at any time; a second run uses its virtual environment again.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/build/package
mkdir -p "$work" dist
# The modules are those of the wheel, as it is.
wheel=$root/$(packaging/build_wheel.sh | tail -n 1)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)} PYTHONHASHSEED=0

[ -x "$work/venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "${wheel}[package]"

# Analysed from elsewhere, so that the installed package is what goes in, not the checkout.
cd "$work"
"$work/venv/bin/pyinstaller" --noconfirm --log-level WARN --distpath "$work/dist" --workpath "$work/build" "$root/packaging/crdt-redis.spec"
"${CC:-gcc}" -O2 -Wall -Wextra -Wno-format-truncation -static -s -o "$work/launcher" "$root/packaging/launcher.c" -lz
"$work/venv/bin/python" "$root/packaging/pack.py" "$work/launcher" "$work/dist/crdt-redis" "$root/dist/crdt-redis" "$work/libraries"
"$work/venv/bin/python" "$root/packaging/sbom.py" "$work/build/crdt-redis" "$work/libraries" "$root/dist/crdt-redis" "$root/dist/crdt-redis.cdx.json"
