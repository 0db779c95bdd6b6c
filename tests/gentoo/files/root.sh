#!/bin/sh
# A hook of mmdebstrap, run with the builder's root as $1: puts Portage in as a stage3 has it.
# $2 is a directory with what goes in: the unpacked wheel (wheel/), ca.crt (what the outer machine trusts), etc/.
set -eu
root=$1 given=$2
wheel=$given/wheel

# Portage, where its own `meson install` would put it. The wheel is built for a virtual environment (type MODULE), and
# takes sys.prefix for EPREFIX; two constants make it the installation of type SYSTEM that a stage3 has.
python=$root/usr/lib/python3/dist-packages
rm -rf "$wheel/portage/tests"
cp -a "$wheel/portage" "$wheel/_emerge" "$python/"
data=$(echo "$wheel"/portage-*.data)
sed -i 's/"MODULE" == "MODULE"/"SYSTEM" == "MODULE"/; s/"MODULE" == "SYSTEM"/"SYSTEM" == "SYSTEM"/' \
    "$python/portage/installation.py"
sed -i 's|PORTAGE_BASE_PATH = """"""|PORTAGE_BASE_PATH = "/usr/lib/portage"|
    s|PORTAGE_BIN_PATH = """"""|PORTAGE_BIN_PATH = "/usr/lib/portage/bin"|' "$python/portage/const.py"
grep -q '"SYSTEM" == "SYSTEM"' "$python/portage/installation.py"
grep -q 'PORTAGE_BIN_PATH = "/usr/lib/portage/bin"' "$python/portage/const.py"
mkdir -p "$root/usr/lib/portage" "$root/usr/share/portage"
cp -a "$data/data/lib/portage/." "$root/usr/lib/portage/"
cp -a "$data/data/share/portage/config" "$root/usr/share/portage/"
cp -a "$data/data/etc/." "$root/etc/"
cp -a "$data/scripts/." "$root/usr/bin/"
find "$root/usr/lib/portage/bin" "$data/scripts" -type f -exec chmod 755 {} +
chmod 755 "$root/usr/bin/etc-update" "$root/usr/bin/emerge-webrsync"
for name in archive-conf dispatch-conf ebuild egencache emaint emerge env-update fixpackages portageq quickpkg regenworld; do
    ln -sf "../lib/portage/bin/$name" "$root/usr/bin/$name"
done
ln -sf python3 "$root/usr/bin/python"

# The user that phases drop to, with the numbers that Gentoo gives it.
echo 'portage:x:250:250:portage:/var/lib/portage/home:/bin/false' >> "$root/etc/passwd"
echo 'portage::250:portage' >> "$root/etc/group"
grep -q '^nogroup:' "$root/etc/group"
install -d -o 250 -g 250 -m 2775 "$root/var/cache/distfiles" "$root/var/cache/edb" "$root/var/cache/edb/dep"
install -d -m 755 "$root/var/db/pkg" "$root/var/db/repos" "$root/var/cache/binpkgs" "$root/var/lib/portage/home"
install -d -m 1777 "$root/var/tmp"

# No sandbox(1) in Debian: Portage would say so at every call.
sed -i 's/ sandbox / /; s/ usersandbox / /' "$root/usr/share/portage/config/make.globals"
cp "$given/etc/repos.conf" "$root/usr/share/portage/config/repos.conf"
cp -a "$given/etc/portage" "$root/etc/"
[ ! -e "$given/ca.crt" ] || install -D -m 644 "$given/ca.crt" "$root/etc/ssl/certs/ca-certificates.crt"

# What no ebuild of ours needs: link-time optimisation, sanitizers, profilers, documentation.
gcc=$(echo "$root"/usr/libexec/gcc/*/*)
lib=$(echo "$root"/usr/lib/gcc/*/*)
rm -rf "$gcc/lto1" "$gcc/g++-mapper-server" "$root"/usr/bin/*gp-* "$root"/usr/bin/*gprofng* "$root"/usr/lib/*/gprofng \
    "$root"/usr/lib/*/lib*san.so* "$lib"/lib*san* "$root"/usr/bin/*lto-dump* "$root"/usr/bin/*-dwp \
    "$root"/usr/lib/*/libc.a "$root"/usr/lib/*/libm-*.a "$root"/usr/lib/*/libmvec.a \
    "$root"/usr/lib/*/gconv "$root"/usr/share/locale/* "$root"/usr/share/info "$root"/usr/share/zoneinfo \
    "$root"/usr/share/i18n \
    "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log
chroot "$root" python3 -m compileall -q -j 2 /usr/lib/python3/dist-packages /usr/lib/python3.* > /dev/null || true
