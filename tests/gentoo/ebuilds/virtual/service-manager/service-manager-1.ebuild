EAPI=8

DESCRIPTION="Virtual for an init that manages services"
SLOT="0"
KEYWORDS="amd64"
RDEPEND="sys-apps/systemd"
