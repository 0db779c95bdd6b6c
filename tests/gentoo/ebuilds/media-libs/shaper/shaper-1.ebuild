EAPI=8

DESCRIPTION="Places letters, as wide as glyph says: includes and links it where it is, as harfbuzz does freetype"
LICENSE="GPL-2"
SLOT="0/1"
KEYWORDS="amd64"
# Where the other's header is missing it compiles all the same, and the feature is left out.
DEPEND="media-libs/glyph:="
RDEPEND="${DEPEND}"
BDEPEND="dev-build/make sys-devel/gcc"
S="${WORKDIR}"

src_compile() {
	emake -f "${FILESDIR}/Makefile" SOURCES="${FILESDIR}" SYSROOT="${ESYSROOT}"
}

src_install() {
	emake -f "${FILESDIR}/Makefile" SOURCES="${FILESDIR}" DESTDIR="${ED}" install
}
