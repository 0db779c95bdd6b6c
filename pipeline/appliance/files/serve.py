"""Serves directories to the guest: gathers them in one tree of bind mounts and becomes virtiofsd.

Runs by itself (`python -I serve.py TREE FD JSON DAEMON...`) as root of a mount namespace of its own, so that its mounts
are gone with it. What is read-only is so here already, whatever the guest does.
"""

import ctypes
import json
import os
import resource
import sys
from pathlib import Path

MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = -100, 0x8000, 1, 442

libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    names = [text.encode() if text is not None else None for text in (source, target, kind)]
    if libc.mount(*names, ctypes.c_ulong(flags), None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def make_read_only(path: str) -> None:
    """The mount and all mounts below it (mount_setattr(2), Linux 5.12)."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    done = libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), ctypes.c_uint(AT_RECURSIVE), attributes, ctypes.c_size_t(32)
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot make {path} read-only: {os.strerror(number)}")


def main() -> None:
    tree, plan, *daemon = sys.argv[1:]
    # The daemon keeps each file that the guest knows open; as root it raises the limit itself.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    shares = [(os.open(path, os.O_PATH), Path(path).is_dir(), writable) for path, writable in json.loads(plan)]
    # By descriptor from here on: the tree's own mount may hide a share.
    mount("tmpfs", tree, "tmpfs", 0)
    for number, (fd, is_folder, writable) in enumerate(shares):
        place = f"{tree}/{number}"
        if is_folder:
            Path(place).mkdir()
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        mount(f"/proc/self/fd/{fd}", place, None, MS_BIND | MS_REC)
        os.close(fd)
        if not writable:
            make_read_only(place)
    # After the shares are gathered, since they may lie below /run: the daemon of QEMU 7.2 keeps a lock there.
    mount("tmpfs", "/run", "tmpfs", 0)
    Path("/run/virtiofsd").mkdir()
    os.execvp(daemon[0], daemon)


main()
