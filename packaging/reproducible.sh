# Sourced before modules are compiled for others (build_wheel.sh, .ci/run): two builds of one commit by the same tools make
# the same bytes. Nothing of the place and the time goes in: no paths, no order of a hash; nor of what was compiled with other flags.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$root/build/wheel
mkdir -p "$work"
export CRDT_REDIS_BUILD=release PYTHONHASHSEED=0
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 315532800)}
# (CPPFLAGS: they go behind the flags of Python, in whose place CFLAGS would stand.)
export CPPFLAGS="${CPPFLAGS:-} -g0 -ffile-prefix-map=$root=." LDSHARED="${CC:-gcc} -shared"
printf '[build]\nbuild_base = %s/base\n' "$work" >"$work/setup.cfg"
export DIST_EXTRA_CONFIG=$work/setup.cfg
by="$("${CC:-gcc}" --version | head -n 1) ${CPPFLAGS/$root/} ${CFLAGS:-} ${LDFLAGS:-}"
[ "$(cat "$work/by" 2>/dev/null)" = "$by" ] || { rm -rf "$work/base"; echo "$by" >"$work/by"; }
