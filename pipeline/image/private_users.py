"""The user ids of a machine (`boot.private_users`), and what systemd-nspawn takes only with or only without its own.

It would tell when the machine starts, and not start it: each was tried with systemd 257. It starts one whose root is
an overlay, but to map that it copies the whole tree into the host's /tmp, and fails where that is too small.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from pipeline.bootstrap.values import refuse
from pipeline.image.containers import mapping
from pipeline.image.nspawn import Nspawn

IDENTITY = "identity"
_RANGE = re.compile(r"(\d+)(?::(\d+))?")
_COUNT = 65536
_LAST = 2**31
"""nspawn mounts devpts with a group of the range, which the kernel reads as a signed number."""


def _private_users(value: object) -> object:
    if isinstance(value, bool) or value == IDENTITY:
        return value
    if isinstance(value, str) and (found := _RANGE.fullmatch(value)):
        base, count = int(found[1]), int(found[2] or _COUNT)
        if base > 0 and count >= _COUNT and base + count <= _LAST:
            return value
    raise refuse(
        f'true or false, "identity", or a range of at least {_COUNT} below 2^31 as "524288" or "524288:65536"', value
    )


PrivateUsers = Annotated[
    bool | str,
    BeforeValidator(_private_users),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": r"^(identity|[1-9][0-9]*(:[1-9][0-9]*)?)$"}]}
    ),
]


def own_range(users: bool | str) -> bool:
    """Whether a machine's user ids are others than the host's."""
    return users is not False and users != IDENTITY


def impossible(users: bool | str, nspawn: Nspawn) -> str | None:
    """Why systemd-nspawn would not start a machine with these user ids and settings, None if it would."""
    files = nspawn.files
    score = nspawn.exec.oom_score_adjust
    if score is not None and (own_range(users) or (users == IDENTITY and score < 0)):
        return "`nspawn.exec.oom_score_adjust` needs `boot.private_users = false`: systemd-nspawn cannot set it else"
    if files.volatile == "overlay" and own_range(users):
        return (
            '`nspawn.files.volatile = "overlay"` needs `boot.private_users = false` or "identity": '
            "to map such a root, systemd-nspawn copies the whole tree into the host's /tmp"
        )
    if files.bind_user and not own_range(users):
        return "`nspawn.files.bind_user` needs `boot.private_users = true` or a range: it maps these users into that"
    if not own_range(users) and any(mapping(one) == "idmap" for one in (*files.bind, *files.bind_read_only)):
        return (
            "`idmap` of `nspawn.files.bind` and `bind_read_only` needs `boot.private_users = true` or a range: "
            "there is nothing else to map to"
        )
    if files.private_users_ownership == "chown":
        if files.read_only or files.volatile != "no":
            key = "read_only" if files.read_only else "volatile"
            return f'`nspawn.files.private_users_ownership = "chown"` and `{key}` exclude each other'
        base, _, count = str(users).partition(":")
        if own_range(users) and users is not True and (int(base) % _COUNT or int(count or _COUNT) != _COUNT):
            return (
                '`nspawn.files.private_users_ownership = "chown"` needs a range of 65536 that begins at a multiple of '
                f'that, such as "{max(1, int(base) // _COUNT) * _COUNT}"'
            )
    return None
