EAPI=8

DESCRIPTION="Directories, accounts and the name of the distribution"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
S="${WORKDIR}"

src_install() {
	local name
	keepdir /home /mnt /opt /srv /usr/{bin,lib,lib64,sbin} /var/{cache,lib,log,spool}
	for name in bin lib lib64 sbin; do
		dosym usr/${name} /${name}
	done
	dosym ../run /var/run
	dosym ../run/lock /var/lock
	dosym ../usr/lib/os-release /etc/os-release
	dosym ../proc/self/mounts /etc/mtab
	# With these, and locale.conf and shadow, systemd-firstboot(1) has nothing left to ask on the console.
	dosym ../usr/share/zoneinfo/UTC /etc/localtime
	diropts -m 0700
	keepdir /root

	insinto /etc
	doins -r "${FILESDIR}"/etc/.
	fperms 0640 /etc/shadow /etc/gshadow
	fowners 0:42 /etc/shadow /etc/gshadow
	insinto /usr/lib
	doins "${FILESDIR}"/os-release
}

# What is mounted over must not belong to a package, or it could not be updated in a running machine.
pkg_preinst() {
	local name
	for name in dev proc run sys; do
		install -d "${EROOT}/${name}" || die
	done
	install -d -m 1777 "${EROOT}/tmp" "${EROOT}/var/tmp" || die
}
