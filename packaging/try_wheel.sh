#!/usr/bin/env bash
# Tries the wheel (build_wheel.sh) as a stranger has it: a fresh virtual environment, no compiler to be found, no checkout near.
# pip fetches what it depends on, as wheels. Prints what it checked; ends at the first thing that is wrong.
#
#   packaging/try_wheel.sh [WHEEL]
set -euo pipefail
cd "$(dirname "$0")/.."
wheel=$(realpath "${1:-$(ls -t dist/crdtredis-*.whl | head -n 1)}")
work=$(mktemp -d)
finish() { [ -z "${server:-}" ] || kill -9 "$server" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
fail() { echo "FAILED: $*" >&2; [ ! -e "$work/log" ] || tail -n 20 "$work/log" >&2; exit 1; }
ok() { echo "ok: $*"; }

"${PYTHON:-python3}" -m venv "$work/venv"
# Nothing but the environment and a few tools that pip does not need: no gcc, cc, clang.
bin=$work/venv/bin
alone=(env PATH="$bin" CC="$work/no-compiler" HOME="$work" PYTHONPATH=)
alone() { "${alone[@]}" "$@"; }
cd "$work"
alone "$bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$wheel" || fail "it does not install"
ok "$(basename "$wheel") installs without a compiler"
[ "$(alone crdt-redis version)" = "crdt-redis $(basename "$wheel" | cut -d- -f2)" ] || fail "version"
port=$("$bin/python" -c 'import socket; s = [socket.socket() for _ in "12"]; [x.bind(("127.0.0.1", 0)) for x in s]; print(*[x.getsockname()[1] for x in s])')
http=${port#* } port=${port% *}
"${alone[@]}" crdt-redis --port "$port" --http-port "$http" --data-dir data >log 2>&1 &
server=$!
for _ in $(seq 300); do alone crdt-redis healthcheck --http-port "$http" >/dev/null 2>&1 && break; kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
[ "$(alone crdt-redis healthcheck --http-port "$http")" = "/health: 200" ] || fail "healthcheck"
say() { exec 3<>"/dev/tcp/127.0.0.1/$port"; printf '%s\r\n' "$1" >&3; IFS= read -r -t 20 line <&3; exec 3>&-; printf '%s\n' "${line%?}"; }
[ "$(say 'SET k v')" = +OK ] && [ "$(say "EVAL 'return redis.call(\"STRLEN\", \"k\")' 0")" = :1 ] || fail "it does not serve"
"$bin/python" - "$http" <<'END' || fail "the page at /"
import sys, urllib.request
assert b"<title>crdt-redis</title>" in urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/").read()
END
kill -TERM "$server"
wait "$server" || fail "it does not stop in order"
server=
ok "it serves commands, scripts and the page, and stops in order"
alone "$bin/pip" uninstall --quiet --disable-pip-version-check --yes crdtredis
[ -z "$(find "$work/venv" -iname 'crdt*redis*' -print -quit)" ] || fail "files are left"
ok "removed: nothing is left"
echo "all is well"
