#!/bin/sh
# A hook of mmdebstrap, run with the guest's root as $1: makes it a guest of ours.
# $2 is a directory with what goes in: python/ (libraries), keys/ (of ssh), ca.crt (what the outer machine trusts).
set -eu
root=$1 given=$2

echo goldspawn-appliance > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 goldspawn-appliance\n::1 localhost\n' > "$root/etc/hosts"
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"
printf '\105\131\107\144' > "$root/etc/hostid"
echo 'LANG=C.UTF-8' > "$root/etc/locale.conf"
printf 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLANG=C.UTF-8\n' > "$root/etc/environment"
ln -sf /usr/share/zoneinfo/UTC "$root/etc/localtime"
: > "$root/etc/fstab"
printf '[safe]\n\tdirectory = *\n' > "$root/etc/gitconfig"

# The network of QEMU's user mode; the initrd has set the address.
rm -f "$root/etc/resolv.conf"
echo 'nameserver 10.0.2.3' > "$root/etc/resolv.conf"
[ ! -e "$given/ca.crt" ] || cp "$given/ca.crt" "$root/etc/ssl/certs/ca-certificates.crt"

# ssh: root, by our key only. Without PAM a command costs half as much time.
rm -f "$root"/etc/ssh/ssh_host_*
install -m 600 "$given/keys/host" "$root/etc/ssh/ssh_host_ed25519_key"
install -m 644 "$given/keys/host.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$given/keys/user.pub" "$root/root/.ssh/authorized_keys"
cat > "$root/etc/ssh/sshd_config" <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StreamLocalBindUnlink yes
AllowStreamLocalForwarding yes
MaxSessions 200
MaxStartups 200
PrintMotd no
AcceptEnv LANG LC_* COLORTERM
SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
Subsystem sftp internal-sftp
END

cat > "$root/etc/systemd/system/goldspawn-ready.service" <<'END'
[Unit]
Description=Tell the outer machine that this one is up
After=ssh.service dbus.service systemd-machined.service systemd-logind.service
Wants=systemd-machined.service
[Service]
Type=oneshot
RemainAfterExit=yes
# nspawn asks for these; loading them here makes them part of the saved state.
ExecStart=/sbin/modprobe -a zfs fuse virtiofs overlay loop tun veth bridge nf_tables
ExecStart=/bin/sh -c 'echo goldspawn-appliance: ready > /dev/console'
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl --quiet enable goldspawn-ready.service ssh.service systemd-machined.service 2>&1 || true
chroot "$root" systemctl --quiet set-default multi-user.target
chroot "$root" systemctl --quiet mask \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer logrotate.timer \
    systemd-tmpfiles-clean.timer e2scrub_reap.service getty.target getty@tty1.service serial-getty@ttyS0.service \
    systemd-random-seed.service systemd-pstore.service systemd-hwdb-update.service systemd-firstboot.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-journal-flush.service \
    systemd-network-generator.service systemd-networkd.service systemd-networkd.socket systemd-timesyncd.service \
    systemd-remount-fs.service systemd-fsck-root.service systemd-machine-id-commit.service ldconfig.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount \
    zfs-import-cache.service zfs-import-scan.service zfs-mount.service zfs-share.service zfs-zed.service \
    zfs-volume-wait.service zfs-load-module.service ssh.socket sshd.socket 2>&1 || true
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\n' > "$root/etc/systemd/journald.conf.d/goldspawn.conf"
printf '[Manager]\nDefaultTimeoutStopSec=15s\n' > "$root/etc/systemd/system.conf.d/goldspawn.conf"

# Python: where Debian's own python3 looks, compiled for it.
libraries=$(echo "$root"/usr/local/lib/python3.*/dist-packages)
cp -a "$given/python/." "$libraries/"
chown -R 0:0 "$libraries"
chroot "$root" python3 -m compileall -q -j "$(nproc)" /usr/lib/python3 /usr/lib/python3.* /usr/local/lib > /dev/null || true
rm -rf "$root"/usr/share/locale/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/usr/share/info
