EAPI=8

inherit deb

DESCRIPTION="mount, agetty, login, su; and users and groups: useradd and its kin"
LICENSE="BSD GPL-2+ LGPL-2.1+"
DEBS="util-linux libblkid1 libmount1 libsmartcols1 libuuid1 login login.defs mount passwd"
# lslogins would need SQLite; nothing here uses it.
DEB_EXCLUDE=( etc/cron.daily etc/pam.d usr/bin/lslogins "usr/lib/systemd" )
SRC_URI="@SRC_URI@"
RDEPEND="sys-libs/base"

src_install() {
	deb_src_install
	insinto /etc/pam.d
	doins "${FILESDIR}"/{login,passwd,su}
	local service
	for service in chfn chpasswd chsh newusers; do
		dosym passwd /etc/pam.d/${service}
	done
	for service in runuser runuser-l su-l; do
		dosym su /etc/pam.d/${service}
	done
}
