#!/usr/bin/env bash
# Tries dist/crdt-redis where there is nothing else: a directory with only the executable, /proc, /dev and /tmp, no Python, no C library, no
# shell. Run as root, since it mounts and calls chroot (in a mount namespace of its own, so nothing stays behind). Prints what it
# checked; ends at the first thing that is wrong.
#
#   packaging/try_in_empty_root.sh [EXECUTABLE]
set -euo pipefail
cd "$(dirname "$0")/.."
executable=$(realpath "${1:-dist/crdt-redis}")
if [ "${IN_NAMESPACE:-}" != 1 ]; then
    exec env IN_NAMESPACE=1 unshare --mount --propagation private "$0" "$executable"
fi

root=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    umount -l "$root/full" "$root/noexec" "$root/tmp" "$root/dev" "$root/proc" 2>/dev/null || true
    rm -rf "$root"
}
trap finish EXIT
mkdir "$root"/{proc,dev,tmp,noexec,full}
cp "$executable" "$root/crdt-redis"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o noexec tmpfs "$root/noexec"
mount -t tmpfs -o size=2m tmpfs "$root/full"
mount -t tmpfs tmpfs "$root/dev"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9

fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { echo "ok: $*"; }
chroot=$(PATH=$PATH:/usr/sbin:/sbin command -v chroot)
become() { exec env -i "TMPDIR=${TMP_INSIDE:-/tmp}" "$chroot" "$root" /crdt-redis "$@"; }       # "become ... &": $! is the server
inside() { (become "$@"); }
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}
# ask PORT WORD...: one command in the inline form, the first line of the answer (of a bulk string, the second).
ask() {
    local port=$1 line
    shift
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf '%s\r\n' "$*" >&3
    IFS= read -r -t 20 line <&3
    [[ $line != \$[0-9]* ]] || IFS= read -r -t 5 line <&3
    exec 3>&-
    printf '%s\n' "${line%$'\r'}"
}
wait_for() {            # wait_for SECONDS EXPECTED PORT WORD...
    local end=$((SECONDS + $1)) expected=$2 got=
    shift 2
    while got=$(ask "$@" 2>/dev/null) || true; [ "$got" != "$expected" ]; do
        [ $SECONDS -lt $end ] || fail "$* answers '$got', not '$expected'"
        sleep 0.01
    done
}
now_ms() { date +%s%3N; }

[ "$(inside --version)" = "$("$executable" --version)" ] || fail "--version"
ok "starts in an empty root: $(inside --version), $(stat -c %s "$executable") bytes"

# The demands of one server: first PONG, unpacked and not yet unpacked.
for what in "first start, which unpacks" "later start"; do
    [ "$what" = "later start" ] || rm -rf "$root"/tmp/*
    rm -rf "$root/data"
    port=$(free_port)
    begun=$(now_ms)
    become --port "$port" --http-port 0 --data-dir /data >"$root/log" 2>&1 &
    pid=$!
    pids+=("$pid")
    wait_for 30 +PONG "$port" PING
    ok "$what: PONG after $(($(now_ms) - begun)) ms"
    [ "$(ask "$port" SET greeting hello)" = +OK ] && [ "$(ask "$port" GET greeting)" = hello ] || fail "SET and GET"
    kill -TERM "$pid"
    code=0; wait "$pid" || code=$?
    [ $code = 0 ] || { cat "$root/log" >&2; fail "SIGTERM: exit code $code"; }
done
ok "SET, GET, SIGTERM: exit code 0"

become --port "$port" --http-port 0 --data-dir /data >"$root/log" 2>&1 &
pid=$!
pids+=("$pid")
wait_for 30 +PONG "$port" PING
[ "$(ask "$port" GET greeting)" = hello ] || fail "the value is gone after a restart"
kill -9 "$pid"; wait "$pid" 2>/dev/null || true
! ask "$port" PING 2>/dev/null || fail "something still answers after kill -9"
ok "restart keeps the data; kill -9 leaves nothing running"

# Three replicas.
for i in 1 2 3; do ports[i]=$(free_port); https[i]=$(free_port); done
for i in 1 2 3; do
    peers=
    for j in 1 2 3; do [ $i = $j ] || peers+=${peers:+,}127.0.0.1:${https[j]}; done
    become --port "${ports[i]}" --http-port "${https[i]}" --replica-id "r$i" --data-dir "/data$i" --peers "$peers" >"$root/log$i" 2>&1 &
    pids+=($!)
    three[i]=$!
done
for i in 1 2 3; do wait_for 30 +PONG "${ports[i]}" PING; done
for i in 1 2 3; do ask "${ports[i]}" INCRBY visits "$i" >/dev/null; done
for i in 1 2 3; do wait_for 30 6 "${ports[i]}" GET visits; done
for i in 1 2 3; do kill -TERM "${three[i]}"; code=0; wait "${three[i]}" || code=$?; [ $code = 0 ] || fail "replica $i: exit code $code"; done
ok "three replicas: INCRBY 1, 2 and 3 make 6 everywhere"

become demo >"$root/log" 2>&1 &
pid=$!
pids+=("$pid")
end=$((SECONDS + 60))
until grep -q "equal in all three" "$root/log"; do
    [ $SECONDS -lt $end ] && kill -0 "$pid" 2>/dev/null || { cat "$root/log" >&2; fail "demo"; }
    sleep 0.1
done
kill -TERM "$pid"
code=0; wait "$pid" || code=$?
[ $code = 0 ] || { cat "$root/log" >&2; fail "demo: exit code $code"; }
ok "demo: three replicas, equal; SIGTERM: exit code 0"

# Places it cannot unpack into.
for place in noexec full; do
    code=0
    said=$(TMP_INSIDE=/$place inside --version 2>&1) || code=$?
    [ $code != 0 ] && [ "$(wc -l <<<"$said")" = 1 ] && [[ $said == crdt-redis:*TMPDIR* ]] || fail "TMPDIR on $place: exit code $code, '$said'"
    ok "TMPDIR on a file system that is $place: $said"
done
[ -z "$(ls -A "$root/full")" ] || fail "a failed start left files behind"
echo "all is well"
