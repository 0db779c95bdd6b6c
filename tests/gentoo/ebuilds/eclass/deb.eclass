# deb.eclass: installs the files of Debian packages, as they are; no maintainer script runs.
#
# An ebuild names the packages in DEBS, and patterns of files that it does not want in DEB_EXCLUDE (an array).
# What fetches them, SRC_URI, is filled in when the repository is made.

case ${EAPI} in
	8) ;;
	*) die "${ECLASS}: EAPI ${EAPI} not supported" ;;
esac

SLOT="0"
KEYWORDS="amd64"
# Stripped and split already. The files' paths and flags are Debian's, so Portage's checks of them tell nothing.
RESTRICT="mirror strip test"
S="${WORKDIR}"
BDEPEND="app-arch/xz-utils sys-devel/binutils"

# Straight into the image, by root: owners and set-ID bits stay, and nothing is written twice.
deb_src_unpack() { :; }

deb_src_install() {
	local deb pattern excluded=()
	for pattern in "${DEB_EXCLUDE[@]}" usr/share/{bug,doc,info,lintian,locale,man,menu,bash-completion,zsh}; do
		excluded+=( --exclude="./${pattern}" )
	done
	for deb in ${A}; do
		ar p "${DISTDIR}/${deb}" data.tar.xz |
			tar --extract --xz --numeric-owner --preserve-permissions --directory="${ED}" "${excluded[@]}"
		[[ ${PIPESTATUS[*]} == "0 0" ]] || die "cannot unpack ${deb}"
	done
	for deb in bin lib lib64 sbin; do
		[[ ! -e ${ED}/${deb} ]] || die "/${deb} is a link to usr/${deb}, and ${P} has files there"
	done
	find "${ED}" -depth -type d -empty -delete || die
}

EXPORT_FUNCTIONS src_unpack src_install
