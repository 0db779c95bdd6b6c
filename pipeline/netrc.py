"""Logins for servers of packages, in the format of apt_auth.conf(5): known to this process for as long as it lives.

apt reads them from files, and git from a configuration that is made of them; a look at whether an index has changed is
a request of our own, and needs them as well.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Login:
    """A login for what lies below `path` on `host` (with its port, where one is named).

    Without a `scheme` it is for https alone, as apt has it.
    """

    scheme: str
    host: str
    path: str
    name: str
    password: str

    @property
    def authorization(self) -> str:
        """The header of that name, as a server expects it (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()

    def fits(self, uri: str) -> bool:
        """Whether it is for this address."""
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2] if ":" in self.host else parts.hostname
        schemes = (self.scheme,) if self.scheme else ("https",)
        return parts.scheme in schemes and host == self.host and f"{parts.path}/".startswith(self.path)


_known: list[Login] = []


def parse(text: str) -> list[Login]:
    """The logins of a file; a machine without login and password is none."""
    words = iter(word for line in text.splitlines() if not line.lstrip().startswith("#") for word in line.split())
    entries: list[dict[str, str]] = []
    for word in words:
        if word == "machine":
            entries.append({"machine": next(words, "")})
        elif word in ("login", "password") and entries:
            entries[-1][word] = next(words, "")
    found = []
    for entry in entries:
        scheme, _, rest = entry["machine"].rpartition("://")
        host, _, path = rest.partition("/")
        if {"login", "password"} <= entry.keys():
            found.append(Login(scheme, host, f"/{path}", entry["login"], entry["password"]))
    return found


def know(text: str) -> None:
    """From now on `header` has the logins of this text."""
    _known.extend(one for one in parse(text) if one not in _known)


def header(uri: str) -> dict[str, str]:
    """The header of a request for an address for which there is a login; {} for others."""
    for one in _known:
        if one.fits(uri):
            return {"Authorization": one.authorization}
    return {}


def for_git(text: str) -> str:
    """The logins of a file as a configuration of git (git-config(1), http.<url>.extraHeader)."""
    sections = []
    for one in parse(text):
        address = json.dumps(f"{one.scheme or 'https'}://{one.host}{one.path}", ensure_ascii=False)
        sections.append(f"[http {address}]\n\textraHeader = Authorization: {one.authorization}\n")
    return "".join(sections)


def git_environment(key: str = "", value: str = "") -> dict[str, str]:
    """The variables with which git asks nobody for a login, and takes one setting more (git-config(1))."""
    setting = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": value} if key else {}
    return {"GIT_TERMINAL_PROMPT": "0", **setting}
