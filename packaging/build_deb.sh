#!/usr/bin/env bash
# Builds dist/crdt-redis_VERSION_ARCH.deb of dist/crdt-redis (build.sh), which is all that goes in, besides what is in
# packaging/: the unit with a user of its own, a conffile, the manual page and the completions, which the executable prints.
#
#   packaging/build_deb.sh [EXECUTABLE]       REVISION=2 for the next package of the same version; DEB_COMPRESSION=none
#                                             for a package to look into
# Needs dpkg-deb and python3. Two runs make the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
executable=$(realpath "${1:-dist/crdt-redis}")
version=$("$executable" version | sed 's/^crdt-redis //')-${REVISION:-1}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
chmod 755 "$root"
put() { install -D -m "$1" /dev/stdin "$root/$2"; }             # put MODE PATH <CONTENT
doc=usr/share/doc/crdt-redis

python3 packaging/unpack.py "$executable" "$root"
# All that the package has no need of: the executable stands unpacked, so nothing is unpacked at a start.
sed -e '1,/^# systemctl/d' -e 's|/usr/local/bin|/usr/bin|; s|/etc/crdt-redis\.|/etc/crdt-redis/|; s|crdt-redis\.json|crdt-redis.conf|g; s|/etc/crdt-redis/json|/etc/crdt-redis/crdt-redis.conf|' \
    -e 's|^DynamicUser=yes|User=crdt-redis\nGroup=crdt-redis|' -e 's| The executable unpacks itself once into TMPDIR\.||' \
    -e '/^CacheDirectory=/d; /^Environment=TMPDIR=/d' -e 's| user, which exists only while it runs,| user|' \
    -e 's|^Description=.*|&\nDocumentation=man:crdt-redis(1)|' packaging/crdt-redis.service | put 644 usr/lib/systemd/system/crdt-redis.service
put 600 etc/crdt-redis/crdt-redis.conf <packaging/debian/crdt-redis.conf
"$executable" man | gzip -9n | put 644 usr/share/man/man1/crdt-redis.1.gz
"$executable" completion bash | put 644 usr/share/bash-completion/completions/crdt-redis
"$executable" completion zsh | put 644 usr/share/zsh/vendor-completions/_crdt-redis
"$executable" completion fish | put 644 usr/share/fish/vendor_completions.d/crdt-redis.fish
{ cat packaging/debian/copyright; sed -e '1,/^$/d' -e 's/^$/./; s/^/ /' LICENSE; } | put 644 $doc/copyright
gzip -9n <packaging/operation.md | put 644 $doc/operation.md.gz
[ ! -e "$executable.cdx.json" ] || put 644 $doc/sbom.cdx.json <"$executable.cdx.json"
printf 'crdt-redis (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- the crdtredis authors <crdtredis@example.org>  %s\n' \
    "$version" "$(date -uR -d "@$SOURCE_DATE_EPOCH")" | gzip -9n | put 644 $doc/changelog.Debian.gz
gzip -9n <CHANGELOG.md | put 644 $doc/changelog.gz
put 644 usr/share/lintian/overrides/crdt-redis <packaging/debian/lintian-overrides
for script in postinst prerm postrm; do put 755 DEBIAN/$script <packaging/debian/$script; done
echo /etc/crdt-redis/crdt-redis.conf | put 644 DEBIAN/conffiles
put 644 DEBIAN/control <<END
Package: crdt-redis
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: the crdtredis authors <crdtredis@example.org>
Installed-Size: $(du -k --apparent-size -s "$root" | cut -f1)
Depends: adduser, init-system-helpers (>= 1.54)
Section: database
Priority: optional
Description: active-active Redis: every replica takes reads and writes
 crdt-redis speaks Redis's protocol and keeps all data in memory and in a log on
 disk. Any number of replicas take writes at the same time, also while they
 cannot reach each other, and all converge.
END
(cd "$root" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) | put 644 DEBIAN/md5sums
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
package=dist/crdt-redis_${version}_$(dpkg --print-architecture).deb
mkdir -p dist
dpkg-deb --root-owner-group --uniform-compression "-Z${DEB_COMPRESSION:-xz}" --build "$root" "$package" >/dev/null
echo "$package: $(stat -c %s "$package") bytes"
