#!/bin/sh
# Enters the builder without systemd-nspawn: enter.sh BUILDER REPOSITORIES TARGET CACHE COMMAND...
# BUILDER is the unpacked tree, REPOSITORIES a folder of ebuild repositories, CACHE gets distfiles/ and binpkgs/.
# Run it in mount and process namespaces of its own, as root of them; what it mounts ends with them.
set -eu
builder=$1 repositories=$2 target=$3 cache=$4
shift 4
mkdir -p "$target" "$cache/distfiles" "$cache/binpkgs" "$builder/target"
mount -t proc proc "$builder/proc"
mount --rbind /dev "$builder/dev"
mount -t tmpfs tmpfs "$builder/run"
mkdir "$builder/run/lock"
mount --bind "$repositories" "$builder/var/db/repos"
mount -o remount,bind,ro "$builder/var/db/repos"
mount --bind "$target" "$builder/target"
mount --bind "$cache/distfiles" "$builder/var/cache/distfiles"
mount --bind "$cache/binpkgs" "$builder/var/cache/binpkgs"
cat /etc/resolv.conf > "$builder/etc/resolv.conf"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    chroot "$builder" "$@"
