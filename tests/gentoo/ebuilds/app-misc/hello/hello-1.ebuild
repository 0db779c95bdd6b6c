EAPI=8

DESCRIPTION="Answers on port 80, started by systemd's socket, with how wide its greeting is drawn"
LICENSE="GPL-2"
SLOT="0"
KEYWORDS="~amd64"
IUSE="+debug loud"
DEPEND="media-libs/glyph:= media-libs/shaper:="
RDEPEND="${DEPEND} virtual/service-manager"
BDEPEND="sys-devel/gcc"
S="${WORKDIR}"

src_compile() {
	local command=( gcc ${CFLAGS} ${LDFLAGS} $(usex loud -DLOUD "") $(usex debug -DDEBUG "")
		-I"${ESYSROOT}"/usr/include -o hello "${FILESDIR}"/hello.c
		-L"${ESYSROOT}"/usr/lib -Wl,-rpath-link,"${ESYSROOT}"/usr/lib -lglyph -lshaper )
	echo "${command[@]}"
	"${command[@]}" || die
}

src_install() {
	dobin hello
	insinto /usr/lib/systemd/system
	doins "${FILESDIR}"/hello{.socket,@.service}
}
