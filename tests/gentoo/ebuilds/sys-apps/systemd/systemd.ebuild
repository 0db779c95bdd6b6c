EAPI=8

inherit deb

DESCRIPTION="The init, its journal and its logins"
LICENSE="GPL-2+ LGPL-2.1+"
DEBS="systemd libpam-systemd libsystemd-shared systemd-sysv"
DEB_EXCLUDE=( etc/init.d etc/pam.d usr/lib/pam.d usr/share/initramfs-tools )
SRC_URI="@SRC_URI@"
RDEPEND="sys-apps/util-linux sys-libs/base sys-libs/pam"

src_install() {
	deb_src_install
	insinto /etc/pam.d
	doins "${FILESDIR}"/systemd-user
	insinto /usr/lib/systemd/system-preset
	doins "${FILESDIR}"/10-tiny.preset
}
