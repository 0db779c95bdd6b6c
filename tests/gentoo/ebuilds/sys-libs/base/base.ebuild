EAPI=8

inherit deb

DESCRIPTION="The small libraries that systemd, PAM and the shell tools link"
LICENSE="GPL-2+ LGPL-2.1+ MIT"
DEBS="zlib1g libacl1 libapparmor1 libattr1 libaudit1 libbsd0 libbz2-1.0 libcap-ng0 libcap2 libexpat1 libgmp10
	liblzma5 libmd0 libpcre2-8-0 libseccomp2 libselinux1 libsemanage2 libsepol2 libssl3t64 libsystemd0 libtinfo6 libudev1
	libzstd1"
DEB_EXCLUDE=( "usr/lib/*/engines-3" "usr/lib/*/ossl-modules" )
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/glibc"
