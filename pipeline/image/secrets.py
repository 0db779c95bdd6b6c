"""`[secrets]` of image.toml: where secrets come from, and who is given them. What they are stands nowhere."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Text, matching, unique

SecretName = Annotated[
    Text,
    matching(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", "letters, digits, dots, underscores and hyphens, 100 at most"),
]
Variable = Annotated[Text, matching(r"[A-Za-z_][A-Za-z0-9_]*", 'the name of a variable such as "DB_PASSWORD"')]
Use = Literal["credential", "run", "apt", "git"]


@dataclass(frozen=True, config=STRICT)
class Secret:
    """A secret: it comes from a file or from the environment of who builds."""

    file: Annotated[
        Text | None, Field(description="File that holds it: relative to the image's folder, absolute, or below `~/`.")
    ] = None  # fmt: skip
    env: Annotated[
        Variable | None, Field(description="Variable of the environment that holds it.", examples=["DB_PASSWORD"])
    ] = None  # fmt: skip
    use: Annotated[
        tuple[Use, ...],
        unique("use"),
        Field(
            min_length=1,
            description="Who is given it: the machine, as a systemd `credential` of this name; the commands of "
            "`profile.run`, as the file `/run/secrets/<name>` (`run`); `apt`, as logins for repositories "
            "(apt_auth.conf(5)); `git`, as logins for ebuild repositories of git, in the same form.",
        ),
    ] = ("credential",)

    @property
    def logs_in(self) -> bool:
        """Whether it holds logins, in the form of apt_auth.conf(5)."""
        return not {"apt", "git"}.isdisjoint(self.use)

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if (self.file is None) == (self.env is None):
            raise PydanticCustomError("goldspawn", "expected either `file` or `env`")
        return self
