EAPI=8

DESCRIPTION="Directories, accounts and the name of the distribution"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="amd64"
S="${WORKDIR}"

src_install() {
	local name
	dodir /dev /etc /home /mnt /opt /proc /run /srv /sys /usr/{bin,include,lib,lib64,sbin,share,src} \
		/var/{cache,db,lib,log,spool}
	for name in bin lib lib64 sbin; do
		dosym usr/${name} /${name}
	done
	dosym ../run /var/run
	dosym ../run/lock /var/lock
	dosym ../usr/lib/os-release /etc/os-release
	dosym ../proc/self/mounts /etc/mtab
	diropts -m 0700
	dodir /root
	diropts -m 1777
	dodir /tmp /var/tmp

	insinto /etc
	doins -r "${FILESDIR}"/etc/.
	fperms 0640 /etc/shadow
	fowners 0:42 /etc/shadow
	insinto /usr/lib
	doins "${FILESDIR}"/os-release
}
