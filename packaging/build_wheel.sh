#!/usr/bin/env bash
# Builds dist/crdtredis-VERSION-cpXY-cpXY-manylinux_2_N_ARCH.whl, which pip installs where there is no compiler. For the CPython
# that PYTHON names (3.11 to 3.13), and every Linux of this processor with glibc 2.N or newer: N is what its modules ask for, which
# the glibc and compiler of the machine that builds decide. So build it on the oldest that is to be served.
#
# Needs gcc, binutils, and the interpreter's headers. Two builds of one commit by the same tools make the same bytes. Its last line is
# the name of the wheel.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/reproducible.sh
rm -rf "$work/made" "$work/look"
mkdir -p "$work/made" "$work/look" dist
# What was compiled is taken where it is of the sources as they are; but a module that is no more would be packed, too.
for lib in "$work"/base/lib*; do
    [ -d "$lib" ] || continue
    (cd "$lib" && find . -type f -printf '%P\n') | while read -r file; do
        [[ $file = *.so ]] && [ -e "${file%%.cpython-*}.pyx" ] || rm "$lib/$file"
    done
done

version=$("${PYTHON:-python3}" -VV)
[ "$("$work/venv/bin/python" -VV 2>/dev/null)" = "$version" ] || "${PYTHON:-python3}" -m venv --clear "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "wheel>=0.40"
"$work/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/made" .
made=$(ls "$work"/made/*.whl)

# Modes of files would be the checkout's.
"$work/venv/bin/python" -m wheel unpack --dest "$work/look" "$made" >/dev/null
chmod -R u=rwX,go=rX "$work/look"
"$work/venv/bin/python" -m wheel pack --dest-dir "$work/made" "$work"/look/* >/dev/null
mapfile -t modules < <(find "$work/look" -name '*.so')
# All that may be asked of the system beside glibc is nothing.
others=$(readelf -d "${modules[@]}" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u | grep -Ev '^(libc|libm|libdl|librt|libpthread|ld-linux.*)\.so\.' || true)
[ -z "$others" ] || { echo "the modules need $others, which not every Linux has" >&2; exit 1; }
minor=$(objdump -T "${modules[@]}" | grep -o 'GLIBC_2\.[0-9]*' | cut -d. -f2 | sort -n | tail -n 1)
# 2.17 is the oldest that there is a tag for.
[ "$minor" -ge 17 ] || minor=17
(cd "$work/made" && "$work/venv/bin/python" -m wheel tags --remove --platform-tag "manylinux_2_${minor}_$(uname -m)" "$(basename "$made")" >/dev/null)
rm -f dist/crdtredis-*-"$(basename "$made" | cut -d- -f3)"-*.whl           # those for other Pythons stay
for wheel in "$work"/made/*.whl; do mv "$wheel" dist/; echo "dist/$(basename "$wheel")"; done
