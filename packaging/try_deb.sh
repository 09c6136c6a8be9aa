#!/usr/bin/env bash
# Tries the Debian package in a fresh Debian with its own systemd as process 1, in namespaces, without a virtual machine: install,
# service, credentials, watchdog, data of an earlier version, upgrade, remove, purge. Run as root, on a machine with dpkg-deb and
# util-linux. Prints what it checked; ends at the first thing that is wrong, and with 77 where systemd cannot start, since it may not
# have what it needs of mounts and cgroups, as in many containers.
#
#   packaging/try_deb.sh [BASE [PACKAGE [OLDER]]]
#
# BASE: a directory that debootstrap made, with systemd and adduser, or /, which is this machine's own Debian without its own units;
# without it, one is made. Nothing is written there. OLDER: a package to upgrade from; without it, the same one.
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(realpath "${2:-$(ls dist/crdt-redis_*.deb | head -n 1)}")
older=$(realpath "${3:-$package}")
if [ "${IN_NAMESPACE:-}" != 1 ]; then
    exec env IN_NAMESPACE=1 unshare --mount --propagation private "$0" "${1:-}" "$package" "$older"
fi
golden=$PWD/tests/storage/golden/0.1.0.tar.gz
work=$(mktemp -d)
finish() {
    [ -z "${machine:-}" ] || kill -9 "$machine" 2>/dev/null || true
    umount -l "$work"
    rmdir "$work"
}
trap finish EXIT
mount -t tmpfs -o mode=755 tmpfs "$work"
root=$work/root own=$work/own
mkdir "$root" "$own" "$work/overlay" "$work/debs"
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { echo "ok: $*"; }

# Two versions: as it is, and a later one.
cp "$older" "$work/debs/1.deb"
dpkg-deb -R "$package" "$work/tree"
sed -i 's/^\(Version: .*\)$/\1+2/' "$work/tree/DEBIAN/control"
dpkg-deb --root-owner-group -Znone -b "$work/tree" "$work/debs/2.deb" >/dev/null
rm -rf "$work/tree"

base=${1:-}
if [ -z "$base" ]; then
    base=$work/base
    debootstrap --variant=minbase --include=systemd,systemd-sysv,adduser,man-db stable "$base" >/dev/null
fi
mount -t overlay -o "lowerdir=$base,upperdir=$own,workdir=$work/overlay" overlay "$root" || { echo "not tried: nothing can be mounted over $base here"; exit 77; }
if [ "$base" = / ]; then            # what was installed and set up there is none of this
    rm -rf "$root"/etc/systemd/system/* "$root"/usr/sbin/policy-rc.d "$root"/etc/dpkg/dpkg.cfg.d/* "$root"/var/lib/man-db/auto-update
fi
cp -r "$work/debs" "$root/debs"

cat >"$work/boot" <<'END'
set -e
root=$1
mount -t proc proc "$root/proc"
for place in run tmp; do mount -t tmpfs tmpfs "$root/$place"; done
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"; done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount --rbind /sys "$root/sys"
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then     # cgroups of the first version
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
else
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
# Not a mere chroot: services have mount namespaces of their own.
cd "$root"
mkdir -p old
pivot_root . old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lxc chroot . /bin/sh -c \
    'umount -l /old && rmdir /old && mount --make-rshared / && exec /lib/systemd/systemd systemd.unit=multi-user.target'
END
unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child --propagation private bash "$work/boot" "$root" >"$work/log" 2>&1 &
outside=$!
for _ in $(seq 100); do machine=$(cat "/proc/$outside/task/$outside/children" 2>/dev/null) && [ -n "$machine" ] && break; sleep 0.1; done
machine=${machine// /}
in_it() { nsenter -t "$machine" -a -r env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
up=
for _ in $(seq 300); do
    state=$(in_it systemctl is-system-running 2>/dev/null) || true
    case $state in running|degraded) up=1; break;; esac
    kill -0 "$outside" 2>/dev/null || break
    sleep 0.2
done
if [ -z "$up" ]; then
    tail -n 20 "$work/log" >&2
    echo "not tried: systemd does not start here ($state)"
    exit 77
fi
ok "a fresh Debian $(cat "$root/etc/debian_version") with systemd"

ask() {                 # ask WORD...: one command in the inline form, the first line of the answer (of a bulk string, the second)
    in_it bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379 && printf "%s\r\n" "$*" >&3 && IFS= read -r -t 20 line <&3 &&
        { [[ $line != \$[0-9]* ]] || IFS= read -r -t 5 line <&3; } && printf "%s\n" "${line%?}"' ask "$@" 2>/dev/null
}
wait_for() {            # wait_for EXPECTED WORD...
    local expected=$1 got=
    shift
    for _ in $(seq 300); do got=$(ask "$@") || true; [ "$got" != "$expected" ] || return 0; sleep 0.1; done
    in_it journalctl --no-pager -u crdt-redis | tail -n 20 >&2
    fail "$* answers '$got', not '$expected'"
}
property() { in_it systemctl show -P "$1" crdt-redis; }

in_it dpkg -i /debs/1.deb >/dev/null
wait_for +PONG PING
[ "$(property ActiveState)" = active ] && [ "$(in_it systemctl is-enabled crdt-redis)" = enabled ] || fail "the service is not up and enabled"
pid=$(property MainPID)
[ "$(in_it ps -o user= -p "$pid" 2>/dev/null || in_it stat -c %U "/proc/$pid")" = crdt-redis ] || fail "it runs as somebody else"
[ "$(in_it stat -c '%U %a' /var/lib/crdt-redis)" = "crdt-redis 700" ] || fail "the data directory"
[ "$(in_it stat -c '%U %a' /etc/crdt-redis/crdt-redis.conf)" = "root 600" ] || fail "the conffile"
[ -z "$(in_it find /var/cache /tmp -name 'crdt-redis*' -not -path '/tmp/systemd-private*' -print -quit)" ] || fail "it has unpacked itself"
ok "installed: the service is up as user crdt-redis, and unpacks nothing"
[ "$(in_it crdt-redis healthcheck)" = "/health: 200" ] || fail "healthcheck"
! in_it sh -c 'command -v man' >/dev/null || in_it man --warnings crdt-redis 2>&1 | grep -q 'active-active Redis' || fail "man crdt-redis"
! in_it sh -c 'command -v systemd-analyze' >/dev/null || [ -z "$(in_it systemd-analyze verify crdt-redis.service 2>&1)" ] || fail "the unit"
in_it bash -c 'source /usr/share/bash-completion/completions/crdt-redis; COMP_WORDS=(crdt-redis --appendfsync ""); COMP_CWORD=2
    _crdt_redis; [ "${COMPREPLY[*]}" = "always everysec no" ]' || fail "completion"
ok "healthcheck, man crdt-redis, completion"

[ "$(property WatchdogUSec)" = 2min ] || fail "watchdog"
[ "$(property WatchdogTimestampMonotonic)" != 0 ] || fail "it has not told of its life"
in_it mkdir -p /etc/systemd/system/crdt-redis.service.d
printf '[Service]\nWatchdogSec=3\n' >"$root/etc/systemd/system/crdt-redis.service.d/soon.conf"
in_it systemctl daemon-reload
in_it systemctl restart crdt-redis
wait_for +PONG PING
pid=$(property MainPID)
in_it bash -c "kill -STOP $pid"
for _ in $(seq 200); do [ "$(property NRestarts)" = 0 ] || break; sleep 0.1; done
[ "$(property NRestarts)" != 0 ] && [ "$(property MainPID)" != "$pid" ] || fail "a server that hangs is not started again"
in_it rm -r /etc/systemd/system/crdt-redis.service.d
in_it systemctl daemon-reload
wait_for +PONG PING
ok "the watchdog ends a server that hangs, and it is started again"

# Data that an earlier version wrote (tests/storage/test_golden.py says what), streams, and what scripts do under the unit's fences.
data=$root/var/lib/crdt-redis
in_it systemctl stop crdt-redis
find "$data" -mindepth 1 -delete
tar -xzf "$golden" -C "$work"
cp -r "$work/data/." "$data"
in_it chown -R crdt-redis:crdt-redis /var/lib/crdt-redis
in_it systemctl start crdt-redis
wait_for "$(sed -n 's/^"digest": "\(.*\)",$/\1/p' "$work/expected.json")" CRDT.DIGEST
[ "$(ask "EVAL 'redis.call(\"XADD\", KEYS[1], \"1-1\", \"f\", \"v\") return redis.call(\"XLEN\", KEYS[1])' 1 stream")" = :1 ] || [ "$older" != "$package" ] ||
    fail "a script"
wait_for +OK SET greeting hello
digest=$(ask CRDT.DIGEST)
in_it bash -c "kill -9 $(property MainPID)"
wait_for "$digest" CRDT.DIGEST
printf 'requirepass a-password\n' >>"$root/etc/crdt-redis/crdt-redis.conf"
in_it dpkg -i --force-confold /debs/2.deb >/dev/null
wait_for "-NOAUTH Authentication required." GET greeting
with_password() {
    in_it bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379; printf "AUTH a-password\r\n$*\r\n" >&3
        read -r -t 20 x <&3; read -r -t 5 x <&3; read -r -t 5 x <&3; printf "%s\n" "${x%?}"' ask "$@"
}
[ "$(with_password CRDT.DIGEST)" = "$digest" ] || fail "the data is another after the upgrade"
grep -q '^requirepass' "$root/etc/crdt-redis/crdt-redis.conf" || fail "the conffile was overwritten"
ok "data of an earlier version, and scripts; upgraded while it runs, with data; a changed conffile stays and is the server's as a" \
    "credential that root alone can read"

# What goes wrong on real machines: one line in the journal, the exit code, and no start after start.
fails() {               # fails CODE WORDS: a start does, and says so
    ! in_it systemctl restart crdt-redis 2>/dev/null || fail "it starts: $2"
    [ "$(property ExecMainStatus) $(property NRestarts)" = "$1 0" ] || fail "exit code $(property ExecMainStatus), $(property NRestarts) restarts: $2"
    in_it journalctl --no-pager -o cat -n 8 -u crdt-redis | grep -q "^crdt-redis: .*$2" || fail "it does not say: $2"
    in_it systemctl reset-failed crdt-redis
}
unit() { mkdir -p "$root/etc/systemd/system/crdt-redis.service.d"; printf '[Service]\n%s\n' "$1" >"$root/etc/systemd/system/crdt-redis.service.d/here.conf"; in_it systemctl daemon-reload; }
cp -p "$root/etc/crdt-redis/crdt-redis.conf" "$work/conf"
printf 'requirepas a-password\n' >"$root/etc/crdt-redis/crdt-redis.conf"
fails 2 "no such setting (did you mean requirepass?)"
echo 'tls-port 6379' >"$root/etc/crdt-redis/crdt-redis.conf"
fails 2 tls
cp -p "$work/conf" "$root/etc/crdt-redis/crdt-redis.conf"
unit ReadOnlyPaths=/var/lib/crdt-redis
fails 4 "data_dir /var/lib/crdt-redis cannot be"
# A password and a place of its own, for a second one beside the first.
echo other >"$root/etc/crdt-redis/password"
unit "LoadCredential=requirepass:/etc/crdt-redis/password"
: >"$root/etc/crdt-redis/crdt-redis.conf"
in_it systemctl restart crdt-redis
wait_for "-NOAUTH Authentication required." PING
in_it systemctl stop crdt-redis
in_it systemd-run -q --unit=first -p Type=notify -p StateDirectory=first crdt-redis --data-dir /var/lib/first
fails 3 "cannot listen on 127.0.0.1:6379"
in_it dpkg -i /debs/2.deb >/dev/null 2>&1 || fail "an upgrade while somebody else has the port"
in_it systemctl stop first
rm -r "$root/etc/systemd/system/crdt-redis.service.d" "$root/etc/crdt-redis/password"
cp -p "$work/conf" "$root/etc/crdt-redis/crdt-redis.conf"
in_it systemctl daemon-reload
in_it systemctl reset-failed crdt-redis
in_it systemctl restart crdt-redis systemd-journald
[ "$(with_password CRDT.DIGEST)" = "$digest" ] || fail "the data is another after all that"
ok "a slip in the settings, data that cannot be written, a port in use: each is said, once, and upgrades go on; a password as a credential"

in_it dpkg -r crdt-redis >/dev/null
! ask PING || fail "a removed service still answers"
[ ! -e "$root/usr/bin/crdt-redis" ] && [ ! -e "$root/usr/lib/crdt-redis" ] || fail "files are left"
[ -e "$root/etc/crdt-redis/crdt-redis.conf" ] && [ -e "$root/var/lib/crdt-redis/identity.json" ] || fail "data or conffile went with a removal"
in_it dpkg -i /debs/2.deb >/dev/null
wait_for "-NOAUTH Authentication required." GET greeting
[ "$(with_password CRDT.DIGEST)" = "$digest" ] || fail "the data is gone after a removal"
ok "removed: data and conffile stay, and are there when it is installed again"
in_it systemctl disable --now crdt-redis 2>/dev/null
in_it dpkg -i /debs/2.deb >/dev/null
[ "$(in_it systemctl is-enabled crdt-redis || true)" = disabled ] || fail "an upgrade has enabled a service that was disabled"
ok "a disabled service stays so"
in_it dpkg -P crdt-redis >/dev/null
left=$(find "$own" -name '*crdt-redis*' -not -type c -not -path '*/var/log/*' -not -path '*/var/cache/man/*' -printf '/%P\n')
[ -z "$left" ] || fail "left after a purge: $left"
ok "purged: nothing is left"

in_it dpkg -i /debs/2.deb >/dev/null
wait_for +PONG PING
in_it systemctl stop crdt-redis
in_it mount -t tmpfs tmpfs /var/lib/crdt-redis
in_it sh -c 'echo 1 >/var/lib/crdt-redis/segment-0000000000000001.log; mkdir /var/lib/crdt-redis/lost+found'
in_it dpkg -P crdt-redis >/dev/null
[ "$(in_it find /var/lib/crdt-redis)" = /var/lib/crdt-redis ] || fail "left after a purge on the disk that is mounted there"
ok "purged: of a disk that is mounted as its data directory, what was on it"
echo "all is well"
