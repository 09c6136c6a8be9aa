#!/usr/bin/env bash
# Builds the packages in dist/ once more, elsewhere: in another directory, time zone, language and umask. They are the same, byte for
# byte. Prints what it compared; ends at the first difference.
#
#   packaging/try_again.sh [--all]
#
# What was compiled is taken along, to save time, but for one module, which is compiled again: another one with each commit, of those
# that take seconds. --all: all of them, with virtual environments of its own and the Debian package compressed.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}
unset CPPFLAGS LDSHARED DIST_EXTRA_CONFIG

cp -rp setup.py pyproject.toml README.md LICENSE CHANGELOG.md crdtredis packaging "$there"
find "$there/crdtredis" -name '*.so' -delete
chmod -R go= "$there"
all=${1:-}
again="all modules compiled"
if [ -n "$all" ]; then
    find "$there/crdtredis" -name '*.c' -delete
else
    export DEB_COMPRESSION=none
    mkdir -p "$there/build/package"
    cp -rp --parents build/wheel/by build/wheel/base/lib* "$there"
    for venv in build/wheel/venv build/package/venv; do ln -s "$here/$venv" "$there/$venv"; done
    mapfile -t modules < <(cd "$there" && find build/wheel/base -path '*/commands/*.so' | LC_ALL=C sort)
    module=${modules[$((SOURCE_DATE_EPOCH / 60 % ${#modules[@]}))]}
    rm "$there/$module"
    again="$(basename "$module" | cut -d. -f1) compiled"
fi
(
    cd "$there"
    umask 077
    # (What PyInstaller has stripped before it keeps.)
    export TZ=Pacific/Kiritimati LC_ALL=C LANG=C PYINSTALLER_CONFIG_DIR=$there/cache
    packaging/build.sh
    packaging/build_deb.sh
    "$there/build/package/venv/bin/python" packaging/build_image.py
) >"$there/log" 2>&1 || { tail -n 20 "$there/log" >&2; fail "the second build"; }

cd "$there/dist"
compared=
for file in *; do
    [ -e "$here/dist/$file" ] || fail "$file is not in dist/"
    if [[ $file = *.deb && -z $all ]]; then
        for part in --fsys-tarfile --ctrl-tarfile; do cmp <(dpkg-deb $part "$file") <(dpkg-deb $part "$here/dist/$file") || fail "$file differs"; done
    else
        cmp "$file" "$here/dist/$file" || fail "$file differs"
    fi
    compared+=" $file"
done
[ "$(wc -w <<<"$compared")" = 5 ] || fail "compared only$compared"
echo "ok: built once more elsewhere, $again again, the same bytes:$compared"
