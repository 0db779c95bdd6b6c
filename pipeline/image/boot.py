"""`[boot]` of image.toml: how the machine is run, and what counts as a good boot."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Count
from pipeline.image.credentials import Credentials
from pipeline.image.private_users import PrivateUsers
from pipeline.image.values import Size, Units


@dataclass(frozen=True, config=STRICT)
class Boot:
    """How the machine is run: limits, and what counts as a good boot."""

    memory_max: Annotated[
        Size | None, Field(description='Most memory, in bytes or as "512M". Default: no limit.', examples=["512M"])
    ] = None  # fmt: skip
    tasks_max: Annotated[Count | None, Field(description="Most processes and threads. Default: systemd's.")] = None
    cpu_quota: Annotated[
        Count | None, Field(description="Most time of processors, in percent of one; 200 is two. Default: no limit.")
    ] = None  # fmt: skip
    nofile: Annotated[Count | None, Field(description="Most open files of a process. Default: systemd's.")] = None
    private_users: Annotated[
        PrivateUsers, Field(description="The machine's user ids: true, a range of its own that the host picks; a range "
        'as "524288:65536"; "identity", a user namespace with the host\'s ids up to 65535; false, those of the host.')
    ] = True  # fmt: skip
    allow_failed: Annotated[Units, Field(description="Units that may fail at boot.")] = ()
    room: Annotated[
        Size | None,
        Field(
            description="Most bytes that it can write while it is verified, before its disk is full. Default: half of "
            "what the pool has free, and 4G at most.",
            examples=["8G"],
        ),
    ] = None
    credentials: Annotated[
        Credentials,
        Field(
            description="Credentials that ship (systemd.system-credentials(7)), as `--set-credential` of "
            "systemd-nspawn. No secrets: everybody can read them, in the drop-in and in the list of the host's "
            "processes; those are for `[secrets]`.",
            examples=[{"login.issue": "web1"}],
        ),
    ] = Field(default_factory=dict)
    timeout: Annotated[
        float,
        Field(
            strict=True,
            gt=0,
            allow_inf_nan=False,
            description="Seconds until the machine is ready, on a native host; longer in slower places.",
        ),
    ] = 60.0
