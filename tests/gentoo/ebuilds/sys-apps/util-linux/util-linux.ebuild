EAPI=8

inherit deb

DESCRIPTION="mount, agetty, login, su and the libraries of util-linux"
LICENSE="GPL-2+ LGPL-2.1+"
DEBS="util-linux libblkid1 libmount1 libsmartcols1 libuuid1 login mount"
DEB_EXCLUDE=( etc/pam.d usr/bin/lslogins "usr/lib/systemd/system/fstrim.*" )
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/base sys-libs/pam"

src_install() {
	deb_src_install
	insinto /etc/pam.d
	doins "${FILESDIR}"/{login,su}
	dosym su /etc/pam.d/su-l
	dosym su /etc/pam.d/runuser
	dosym su /etc/pam.d/runuser-l
}
