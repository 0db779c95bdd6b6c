# Runs in the guest, by ssh, before anyone else does: clock, randomness, shares, pool. Its arguments come in variables
# put before this text: NOW, SEED, SHARES ("number mode path" a line), VIRTIOFS (1 or 0), POOL (1 or 0).
set -u
date -u -s "@$NOW" > /dev/null
printf %s "$SEED" > /dev/urandom
fail() { echo "goldspawn-setup: $*" >&2; exit 1; }

share() {
    mkdir -p /run/goldspawn-shares
    n=0
    until mount -t virtiofs shares /run/goldspawn-shares 2> /run/goldspawn-mount; do
        n=$((n + 1))
        [ $n -lt 1200 ] || fail "the shares did not appear: $(cat /run/goldspawn-mount)"
        sleep 0.05
    done
    printf %s "$SHARES" | while read -r number mode path; do
        if [ -f "/run/goldspawn-shares/$number" ]; then
            mkdir -p "${path%/*}/" && { [ -e "$path" ] || : > "$path"; }
        else
            mkdir -p "$path"
        fi || fail "no mount point for $path"
        mount --bind "/run/goldspawn-shares/$number" "$path" || fail "cannot mount $path"
        [ "$mode" = rw ] || mount -o remount,bind,ro "$path" || fail "cannot make $path read-only"
    done || exit 1
}

pool() {
    n=0
    until [ -b /dev/vdb ]; do
        n=$((n + 1))
        [ $n -lt 1200 ] || fail "the pool's disk did not appear"
        sleep 0.05
    done
    modprobe zfs
    if timeout 120 zpool import -f -N -d /dev -o cachefile=none goldspawn 2> /run/goldspawn-import; then
        echo pool=imported
    elif timeout 120 zpool import -f -F -N -d /dev -o cachefile=none goldspawn 2>> /run/goldspawn-import; then
        echo pool=rewound
    else
        # A label that blkid still sees is a pool that was here, and cannot be imported any more.
        [ -b /dev/vdb1 ] && echo pool=recreated || echo pool=created
        zpool create -f -m none -o ashift=12 -o autotrim=on -o cachefile=none \
            -O acltype=posix -O xattr=sa -O atime=off -O compression=lz4 goldspawn /dev/vdb || fail "no pool"
    fi
}

# Overlays of machines have their upper layers there, and those cannot lie on the overlay that is the guest's root.
mountpoint -q /var/tmp || mount -t tmpfs -o mode=1777 tmpfs /var/tmp || fail "cannot mount /var/tmp"

[ "$VIRTIOFS" = 0 ] || share || exit 1
[ "$POOL" = 0 ] || pool || exit 1
echo goldspawn-setup: done
