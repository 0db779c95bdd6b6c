EAPI=8

inherit deb

DESCRIPTION="Users and groups: useradd and its kin"
LICENSE="BSD GPL-2+"
DEBS="passwd login.defs"
DEB_EXCLUDE=( etc/cron.daily etc/pam.d "usr/lib/systemd" )
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/base sys-libs/pam"

src_install() {
	deb_src_install
	local service
	for service in chfn chpasswd chsh newusers passwd; do
		insinto /etc/pam.d
		newins "${FILESDIR}/pam" ${service}
	done
}
