EAPI=8

DESCRIPTION="Draws letters, after shaper has placed them: includes and links it, which includes and links this"
LICENSE="GPL-2"
SLOT="0/1"
KEYWORDS="amd64"
# Without the other's header it does not compile, as freetype with harfbuzz[static] would not.
DEPEND="media-libs/shaper:="
RDEPEND="${DEPEND}"
BDEPEND="dev-build/make sys-devel/gcc"
S="${WORKDIR}"

src_compile() {
	emake -f "${FILESDIR}/Makefile" SOURCES="${FILESDIR}" SYSROOT="${ESYSROOT}"
}

src_install() {
	emake -f "${FILESDIR}/Makefile" SOURCES="${FILESDIR}" DESTDIR="${ED}" install
}
