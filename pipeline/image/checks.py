"""`[checks]` of image.toml: ready-made checks of the running machine, each one of its own in the report."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Text, matching, refuse, unique
from pipeline.image.values import UNIT, UNIT_RULE, AbsolutePath, Size


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise refuse(f"a regular expression ({error})", value) from error
    return value


Pattern = Annotated[Text, AfterValidator(_pattern)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Socket = Annotated[Text, matching(r"(tcp|udp)/\d{1,5}", 'a port such as "tcp/80"')]
Marked = Annotated[Text, matching(rf"\*|{UNIT}", f'"*", or {UNIT_RULE}')]
Exposure = Annotated[float, Field(strict=True, ge=0, le=10)]


@dataclass(frozen=True, config=STRICT)
class Checks:
    """Ready-made checks; those that are not named here are not made. No failed unit is always asked for."""

    journal: Annotated[bool, Field(strict=True, description="The journal has no errors (priority err or worse).")] = (
        False
    )
    journal_allow: Annotated[
        tuple[Pattern, ...], Field(description="Regular expressions for errors that may be there.")
    ] = ()  # fmt: skip
    boot_seconds: Annotated[
        Seconds | None, Field(description="It boots within so many seconds, on a native host; longer in slower places.")
    ] = None  # fmt: skip
    poweroff_seconds: Annotated[
        Seconds | None, Field(description="It powers off within so many seconds, on a native host.")
    ] = None  # fmt: skip
    listen: Annotated[
        tuple[Socket, ...] | None,
        Field(description="Just these ports are open to others.", examples=[["tcp/22", "tcp/80"]]),
    ] = None
    setuid: Annotated[
        tuple[AbsolutePath, ...] | None,
        unique("file"),
        Field(description="Just these files are setuid or setgid.", examples=[["/usr/bin/su"]]),
    ] = None
    world_writable: Annotated[
        tuple[AbsolutePath, ...] | None,
        Field(description="Nothing can be written by everybody but these, and directories with the sticky bit."),
    ] = None
    passwords: Annotated[bool, Field(strict=True, description="No account has an empty password.")] = False
    identity: Annotated[
        bool, Field(strict=True, description="Time zone, locale and host name are those of the profile; the time "
              "zone, unless `nspawn.exec.timezone` takes the host's.")
    ] = False  # fmt: skip
    size_max: Annotated[
        Size | None, Field(description="Its file system holds so many bytes at most, before compression.")
    ] = None  # fmt: skip
    exposure: Annotated[
        dict[Marked, Exposure],
        Field(
            description="Most exposure of units, 0 to 10, as `systemd-analyze security` has it; `*` is for all others."
        ),
    ] = Field(default_factory=dict)
    updates: Annotated[
        bool,
        Field(
            strict=True, description="No package has an update in the repositories that the machine itself knows (apt)."
        ),
    ] = False
    unclean: Annotated[
        bool, Field(strict=True, description="It boots again, healthy, after it was killed: no unit of it was stopped.")
    ] = False  # fmt: skip
    volatile: Annotated[
        bool, Field(strict=True, description="It boots, healthy, with a root that forgets (Volatile=overlay).")
    ] = False  # fmt: skip
    read_only: Annotated[
        bool, Field(strict=True, description="It boots, healthy, with a root that is read-only (ReadOnly=yes).")
    ] = False  # fmt: skip

    @property
    def chosen(self) -> tuple[str, ...]:
        """The keys of the checks that are to be made."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        # An empty list is a wish as well: that there be none.
        return tuple(name for name, value in values.items() if value is not None and value not in (False, {}))
