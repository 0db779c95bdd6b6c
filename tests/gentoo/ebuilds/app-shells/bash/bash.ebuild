EAPI=8

inherit deb

DESCRIPTION="The shell, and what it knows of terminals"
LICENSE="GPL-3+ MIT"
DEBS="bash ncurses-base"
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/base"

src_install() {
	deb_src_install
	dosym bash /usr/bin/sh
}
