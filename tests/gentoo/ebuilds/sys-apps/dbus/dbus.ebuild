EAPI=8

inherit deb

DESCRIPTION="The message bus, which systemctl, loginctl and machinectl speak on"
LICENSE="GPL-2+"
DEBS="dbus dbus-bin dbus-daemon dbus-session-bus-common dbus-system-bus-common libdbus-1-3"
DEB_EXCLUDE=( etc/init.d etc/default )
SRC_URI="@SRC_URI@"
RDEPEND="sys-apps/systemd sys-libs/base"
