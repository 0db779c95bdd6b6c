#!/bin/sh
# Runs a command in a builder root: enter.sh ROOT [rw|ro FROM TO]... -- COMMAND...
# Each FROM is seen at TO, below the root. Run in a mount namespace of its own: what is mounted here ends with that.
set -eu
root=$1; shift
mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/lock"
while [ "$1" != -- ]; do
    mode=$1 from=$2 to=$root$3; shift 3
    [ -d "$to" ] || mkdir -p "$to"
    mount --bind "$from" "$to"
    [ "$mode" = rw ] || mount -o remount,bind,ro,nosuid,nodev "$to"
done
shift
rm -f "$root/etc/resolv.conf"
cat /etc/resolv.conf > "$root/etc/resolv.conf"
exec chroot "$root" "$@"
