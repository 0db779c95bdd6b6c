EAPI=8

inherit deb

DESCRIPTION="The C library and what every program links besides it"
LICENSE="LGPL-2.1+"
DEBS="libc6 libc-bin libcrypt1 libgcc-s1"
# Portage itself writes ld.so.conf (env-update).
DEB_EXCLUDE=( "usr/lib/*/gconv" etc/ld.so.conf )
SRC_URI="@SRC_URI@"
RDEPEND="sys-apps/baselayout"
