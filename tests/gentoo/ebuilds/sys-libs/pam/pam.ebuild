EAPI=8

inherit deb

DESCRIPTION="PAM, its modules, and system-auth, which all services include"
LICENSE="BSD GPL-2+"
DEBS="libpam0g libpam-modules libpam-modules-bin"
# It would need the Berkeley database; nothing here uses it.
DEB_EXCLUDE=( "usr/lib/*/security/pam_userdb.so" "usr/lib/systemd" )
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/base"

src_install() {
	deb_src_install
	insinto /etc/pam.d
	doins "${FILESDIR}"/{other,system-auth}
}
