EAPI=8

inherit deb

DESCRIPTION="The init, its journal and its logins, and the message bus that systemctl and machinectl speak on"
LICENSE="GPL-2+ LGPL-2.1+"
DEBS="systemd dbus dbus-bin dbus-daemon dbus-session-bus-common dbus-system-bus-common libpam-systemd
	libsystemd-shared systemd-sysv"
DEB_EXCLUDE=( etc/default etc/init.d etc/pam.d usr/lib/pam.d usr/share/initramfs-tools )
SRC_URI="@SRC_URI@"
RDEPEND="sys-apps/util-linux sys-libs/base"

src_install() {
	deb_src_install
	insinto /etc/pam.d
	doins "${FILESDIR}"/systemd-user
	insinto /usr/lib/systemd/system-preset
	doins "${FILESDIR}"/10-tiny.preset
}
