"""Logins for servers of packages, in the format of apt_auth.conf(5): known to this process for as long as it lives.

apt reads them from files, and git asks a helper of ours; a look at whether an index has changed is a request of our
own, and needs them as well.
"""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass
from urllib.parse import quote, urlsplit


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
    if (one := _login(uri)) is None:
        return {}
    both = base64.b64encode(f"{one.name}:{one.password}".encode()).decode()
    return {"Authorization": f"Basic {both}"}


def _login(uri: str) -> Login | None:
    return next((one for one in _known if one.fits(uri)), None)


def for_git(text: str) -> str:
    """The logins of a file as git-credential-store(1) has them: one for a host, whatever the path."""
    found = parse(text)
    words = [(one.scheme or "https", quote(one.name, ""), quote(one.password, ""), one.host) for one in found]
    return "".join(f"{scheme}://{name}:{password}@{host}\n" for scheme, name, password, host in words)


def git_from_file(file: str | None) -> dict[str, str]:
    """The variables with which git logs in as `for_git` wrote it to a file, and asks nobody.

    A helper is asked for the server that git talks to, so a login is for none to which that leads.
    """
    if file is None:
        return _NOBODY
    return _helped("credential.helper", f"git credential-store --file={shlex.quote(file)} get")


def git_for(uri: str) -> dict[str, str]:
    """The variables with which git logs in at an address for which there is a login, and asks nobody."""
    if (one := _login(uri)) is None:
        return _NOBODY
    parts = urlsplit(uri)
    told = f'printf "username=%s\\npassword=%s\\n" "${_NAME}" "${_PASSWORD}"'
    helped = _helped(f"credential.{parts.scheme}://{parts.netloc}.helper", told)
    return {**helped, _NAME: one.name, _PASSWORD: one.password}


_NAME, _PASSWORD = "GOLDSPAWN_LOGIN", "GOLDSPAWN_PASSWORD"
_NOBODY = {"GIT_TERMINAL_PROMPT": "0"}


def _helped(key: str, get: str) -> dict[str, str]:
    """A helper (gitcredentials(7)) as a setting in variables (git-config(1), GIT_CONFIG_COUNT).

    It only ever tells: what a server refuses is not taken out of our files.
    """
    helper = f'!f() {{ test "$1" != get || {get}; }}; f'
    return {**_NOBODY, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": key, "GIT_CONFIG_VALUE_0": helper}
