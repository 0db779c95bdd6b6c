#!/bin/sh
# A hook of mmdebstrap, run with the tools' root as $1: ZFS's kernel modules for the newest cloud kernel.
# Leaves /out/modules (a tree for /lib/modules), /out/vmlinuz and /out/version.
set -eu
cat > "$1/build-modules" <<'END'
set -eu
kernel=$(basename "$(echo /usr/src/linux-headers-*-cloud-amd64)" | sed s/linux-headers-//)
common=$(echo /usr/src/linux-headers-*-common)
mkdir -p /out /debs
cd /tmp
apt-get -q download zfs-dkms "linux-image-$kernel"
for deb in *.deb; do dpkg-deb -x "$deb" /debs; done
rm -f ./*.deb

cd /debs/usr/src/zfs-*/
./configure --quiet --disable-dependency-tracking --with-config=kernel \
    --with-linux="$common" --with-linux-obj="/usr/src/linux-headers-$kernel"
# Without CONFIG_DEBUG_INFO_BTF_MODULES= pahole fails on spl.ko, for want of vmlinux; -g0 saves a third of the time.
make --silent -j"$(nproc)" KCFLAGS=-g0 CONFIG_DEBUG_INFO_BTF_MODULES= > /tmp/make.log 2>&1 ||
    { tail -n 30 /tmp/make.log; exit 1; }

[ -d /debs/usr/lib/modules ] && mv /debs/usr/lib/modules /out/modules || mv /debs/lib/modules /out/modules
mkdir -p "/out/modules/$kernel/updates"
cp module/spl.ko module/zfs.ko "/out/modules/$kernel/updates/"
strip --strip-debug "/out/modules/$kernel/updates/"*.ko
cp "/debs/boot/vmlinuz-$kernel" /out/vmlinuz
rm -rf "/out/modules/$kernel/build" "/out/modules/$kernel/source"
echo "$kernel" > /out/version
END
chroot "$1" sh /build-modules
