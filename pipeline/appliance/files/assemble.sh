#!/bin/sh
# Puts the parts together: $1 the tools' root (with /out), $2 the guest's root, $3 this directory, $4 where the kernel,
# the initrd and the root file system go. Runs as root, or as root of a user namespace, in a mount namespace of its own.
set -eu
tools=$1 root=$2 files=$3 target=$4
kernel=$(cat "$tools/out/version")
mv "$tools/out/modules/$kernel" "$tools/out/$kernel"
mkdir -p "$root/usr/lib/modules" "$tools/guest"
mv "$tools/out/$kernel" "$root/usr/lib/modules/"
cp "$files/init" "$tools/out/init"
mount --bind "$root" "$tools/guest"
mount --rbind /dev "$tools/dev"
cat > "$tools/assemble" <<'END'
set -eu
kernel=$(cat /out/version)
depmod -b /guest/usr "$kernel" 2>/dev/null || depmod -b /guest "$kernel"
modules=/guest/usr/lib/modules/$kernel

# The initrd: busybox, and the modules that lead to the root and the network, in the order of their dependencies.
mkdir -p /initrd/bin /initrd/modules
cp /bin/busybox /initrd/bin/
cp /out/init /initrd/init
chmod 755 /initrd/init
: > /initrd/modules/order
for module in virtio_pci virtio_blk virtio_net virtio_rng erofs overlay; do
    modprobe -d /guest -S "$kernel" --show-depends "$module" 2>/dev/null | while read -r verb path _; do
        [ "$verb" = insmod ] || continue
        name=$(basename "$path" | sed 's/\.ko.*//').ko
        ! grep -qx "$name" /initrd/modules/order || continue
        case $path in
            *.xz) xz -dc "$path" > "/initrd/modules/$name" ;;
            *.zst) zstd -qdc "$path" > "/initrd/modules/$name" ;;
            *) cp "$path" "/initrd/modules/$name" ;;
        esac
        echo "$name" >> /initrd/modules/order
    done
done
cat /initrd/modules/order
(cd /initrd && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > /out/initrd)
mkfs.erofs --quiet -zlz4 /out/root.erofs /guest
END
chroot "$tools" sh /assemble
cp "$tools/out/vmlinuz" "$tools/out/initrd" "$tools/out/root.erofs" "$tools/out/version" "$target/"
