EAPI=8

inherit deb

DESCRIPTION="PAM, and the small libraries that systemd and the shell tools link"
LICENSE="BSD GPL-2+ LGPL-2.1+ MIT"
DEBS="zlib1g libacl1 libapparmor1 libattr1 libaudit1 libbsd0 libbz2-1.0 libcap-ng0 libcap2 libdbus-1-3 libexpat1
	libgmp10 liblzma5 libmd0 libpam-modules libpam-modules-bin libpam0g libpcre2-8-0 libseccomp2 libselinux1
	libsemanage2 libsepol2 libssl3t64 libsystemd0 libtinfo6 libudev1 libzstd1"
# pam_userdb would need the Berkeley database; nothing here uses it.
DEB_EXCLUDE=( "usr/lib/*/engines-3" "usr/lib/*/ossl-modules" "usr/lib/*/security/pam_userdb.so" "usr/lib/systemd" )
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/glibc"

src_install() {
	deb_src_install
	insinto /etc/pam.d
	doins "${FILESDIR}"/{other,system-auth}
}
