EAPI=8

inherit deb

DESCRIPTION="The tools of a shell: coreutils, findutils, grep, hostname and sed"
LICENSE="GPL-3+"
DEBS="coreutils findutils grep hostname sed"
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/base"
