#!/usr/bin/env bash
# Tries the Debian package in a fresh Debian with its own systemd as process 1, in namespaces, without a virtual machine: install,
# service, credentials, watchdog, upgrade with data, remove, purge. Run as root, on a machine with debootstrap, dpkg-deb and util-linux;
# what it needs of cgroups, most machines and few containers give. Prints what it checked; ends at the first thing that is wrong.
#
#   packaging/try_deb.sh [BASE [PACKAGE]]     BASE: a directory that debootstrap made, with systemd and adduser; without it, one is made
set -euo pipefail
cd "$(dirname "$0")/.."
package=$(realpath "${2:-$(ls dist/crdt-redis_*.deb | head -n 1)}")
work=$(mktemp -d)
chmod 755 "$work"
root=$work/root
finish() {
    [ -z "${machine:-}" ] || kill -9 "$machine" 2>/dev/null || true
    for _ in $(seq 50); do umount "$work/disk" 2>/dev/null && break; [ -d "$work/disk" ] && sleep 0.1 || break; done
    rm -rf --one-file-system "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
ok() { echo "ok: $*"; }

# Two versions: as it is, and a later one.
mkdir "$work/debs"
cp "$package" "$work/debs/1.deb"
dpkg-deb -R "$package" "$work/tree"
sed -i 's/^\(Version: .*\)$/\1+2/' "$work/tree/DEBIAN/control"
dpkg-deb --root-owner-group -Znone -b "$work/tree" "$work/debs/2.deb" >/dev/null
rm -rf "$work/tree"

base=${1:-}
if [ -z "$base" ]; then
    debootstrap --variant=minbase --include=systemd,systemd-sysv,adduser,man-db stable "$root" >/dev/null
else
    cp -a "$base" "$root"
fi
cp -r "$work/debs" "$root/debs"

cat >"$work/boot" <<'END'
set -e
root=$1
mount --bind "$root" "$root"
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
mkdir old
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
[ -n "$up" ] || { tail -n 20 "$work/log" >&2; fail "systemd does not start here ($state)"; }
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
in_it man --warnings crdt-redis 2>&1 | grep -q 'active-active Redis' || fail "man crdt-redis"
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

wait_for +OK SET greeting hello
printf 'requirepass a-password\n' >>"$root/etc/crdt-redis/crdt-redis.conf"
in_it dpkg -i --force-confold /debs/2.deb >/dev/null
wait_for "-NOAUTH Authentication required." GET greeting
greeting() {
    in_it bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379; printf "AUTH a-password\r\nGET greeting\r\n" >&3
        read -r -t 20 x <&3; read -r -t 5 x <&3; read -r -t 5 x <&3; printf "%s\n" "${x%?}"'
}
[ "$(greeting)" = hello ] || fail "the data is gone after the upgrade"
grep -q '^requirepass' "$root/etc/crdt-redis/crdt-redis.conf" || fail "the conffile was overwritten"
ok "upgraded, with data; a changed conffile stays and is the server's as a credential that root alone can read"

in_it dpkg -r crdt-redis >/dev/null
! ask PING || fail "a removed service still answers"
[ ! -e "$root/usr/bin/crdt-redis" ] && [ ! -e "$root/usr/lib/crdt-redis" ] || fail "files are left"
[ -e "$root/etc/crdt-redis/crdt-redis.conf" ] && [ -e "$root/var/lib/crdt-redis/identity.json" ] || fail "data or conffile went with a removal"
in_it dpkg -i /debs/2.deb >/dev/null
wait_for "-NOAUTH Authentication required." GET greeting
[ "$(greeting)" = hello ] || fail "the data is gone after a removal"
ok "removed: data and conffile stay, and are there when it is installed again"
in_it systemctl disable --now crdt-redis 2>/dev/null
in_it dpkg -i /debs/2.deb >/dev/null
[ "$(in_it systemctl is-enabled crdt-redis || true)" = disabled ] || fail "an upgrade has enabled a service that was disabled"
ok "a disabled service stays so"
in_it dpkg -P crdt-redis >/dev/null
left=$(in_it find / -xdev -path /proc -prune -o -path /sys -prune -o -name '*crdt-redis*' -not -path '/var/log/*' -not -path '/var/cache/man/*' -not -path '/debs/*' -print)
[ -z "$left" ] || fail "left after a purge: $left"
ok "purged: nothing is left"
echo "all is well"
