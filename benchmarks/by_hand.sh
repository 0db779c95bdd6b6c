#!/bin/sh -e
# What goldspawn replaces: the lines that an admin types. Arguments: dataset, machine, suite, stream file, packages.
dataset=$1 name=$2 suite=$3 stream=$4; shift 4; root=/var/lib/machines/$name
zfs create -o mountpoint="$root" -o acltype=posix -o xattr=sa -o compression=zstd "$dataset"
mmdebstrap --variant=minbase --include=systemd-sysv,dbus,libpam-systemd "$suite" "$root"
systemd-nspawn -q -D "$root" --pipe sh -c "apt-get -q update && apt-get -qy --no-install-recommends install $*"
echo "$name" >"$root/etc/hostname"
systemd-run -q --unit="$name" -p Type=notify systemd-nspawn -q -b -U --keep-unit --notify-ready=yes --private-network -M "$name" -D "$root"
systemctl -M "$name" is-system-running --wait
machinectl poweroff "$name" && while systemctl -q is-active "$name"; do sleep 0.2; done
zfs snapshot "$dataset@golden" && zfs send -Lce "$dataset@golden" >"$stream"
