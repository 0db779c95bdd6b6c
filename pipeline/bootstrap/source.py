"""A tarball that a user names: where it is, how it is known to be the right one, and its bytes as a plain tar.

A tarball from elsewhere is checked by its digest or by a signature; one that lies on this machine may go without.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from pipeline.bootstrap.method import STRICT
from pipeline.bootstrap.values import Text, matching
from pipeline.command import BuildLog, output, run
from pipeline.errors import CommandFailed, GoldspawnError, InputError

_DECOMPRESSORS = {".gz": "gzip", ".tgz": "gzip", ".xz": "xz", ".txz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
_SILENCE = 30.0
"""Seconds after which a server that sends nothing is given up."""

Sha256 = Annotated[Text, matching(r"[0-9a-f]{64}", "a SHA-256 digest: 64 hexadecimal digits in lower case")]
Place = Annotated[Text, matching(r"https?://\S+|[^\s:]+", 'a path, or a URI such as "https://…/stage3.tar.xz"')]


@dataclass(frozen=True, config=STRICT)
class Tarball:
    """A tarball, and what tells that it is the right one."""

    tarball: Annotated[
        Place, Field(description="The file: a path relative to the image's folder, or a URI (http, https).")
    ]  # fmt: skip
    sha256: Annotated[Sha256 | None, Field(description="Its SHA-256 digest. One from a URI needs this or `key`.")] = (
        None
    )
    key: Annotated[
        Text | None,
        Field(
            description="File with the OpenPGP keys of whoever may have signed it, relative to the image's folder; the "
            "detached signature lies beside the tarball, with `.asc` or `.sig` at the end of its name."
        ),
    ] = None

    @model_validator(mode="after")
    def _checked(self) -> Tarball:
        if self.remote and self.sha256 is None and self.key is None:
            raise PydanticCustomError("goldspawn", "a tarball from a URI needs `sha256` or `key`")
        return self

    @property
    def remote(self) -> bool:
        """Whether it has to be fetched."""
        return "://" in self.tarball

    @property
    def files(self) -> tuple[str, ...]:
        """The files of this machine that it names, relative to the image's folder."""
        return tuple(name for name in (None if self.remote else self.tarball, self.key) if name is not None)


def plain(source: Tarball, tar: Path, *, key: str, log: BuildLog, base: Path, slowness: float) -> None:
    """Writes a tarball's content to `tar`, uncompressed, after it was checked.

    `key` is what image.toml calls it, for errors; `base` the image's folder; `slowness` multiplies time limits. The
    folder of `tar` holds what is fetched. Raises `InputError` for one that is not there or not the right one.
    """
    file = _fetched(source, tar.parent, key=key, log=log) if source.remote else base / source.tarball
    if not file.is_file():
        raise InputError(f"{key}.tarball of image.toml: there is no file {file}")
    if source.sha256 is not None:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != source.sha256:
            raise InputError(
                f"{key}.sha256 of image.toml: {source.tarball} has the digest {digest}",
                hint="take the digest from where the tarball was made public, if that is the one you want",
            )
    if source.key is not None:
        _verify(source, file, key=key, log=log, base=base)
    _decompress(file, tar, log=log, timeout=900 * slowness)


def _fetched(source: Tarball, folder: Path, *, key: str, log: BuildLog) -> Path:
    file = folder / source.tarball.rsplit("/", 1)[1]
    _download(source.tarball, file, key=key, log=log)
    return file


def _download(uri: str, file: Path, *, key: str, log: BuildLog) -> None:
    import urllib.error  # slow to import, and seldom needed
    import urllib.request

    log.command(["curl", "--fail", "--location", "--output", str(file), uri])
    shown = time.monotonic()
    done = 0
    try:
        with urllib.request.urlopen(uri, timeout=_SILENCE) as answer, file.open("wb") as out:
            size = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(1 << 20):
                out.write(chunk)
                done += len(chunk)
                if time.monotonic() - shown > 1.0:
                    shown = time.monotonic()
                    log.line(f"{done / 1e6:.0f} of {size / 1e6:.0f} MB" if size else f"{done / 1e6:.0f} MB")
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise GoldspawnError(f"{key}.tarball of image.toml: {uri}: {reason}") from error
    if size and done != size:
        raise GoldspawnError(f"{key}.tarball of image.toml: {uri}: ended after {done} of {size} bytes")


def _verify(source: Tarball, file: Path, *, key: str, log: BuildLog, base: Path) -> None:
    """Checks the detached signature with gpgv, which trusts exactly the keys that it is given."""
    assert source.key is not None
    signature = None
    for ending in (".asc", ".sig"):
        beside = file.with_name(file.name + ending)
        if source.remote:
            try:
                _download(source.tarball + ending, beside, key=key, log=log)
            except GoldspawnError:
                continue
        if beside.is_file():
            signature = beside
            break
    if signature is None:
        raise InputError(f"{key}.key of image.toml: there is no signature beside {source.tarball} (.asc or .sig)")
    with tempfile.TemporaryDirectory(prefix="goldspawn-gpg-") as home:
        ring = Path(home) / "ring.gpg"
        try:
            keys = base / source.key
            if keys.read_bytes().lstrip().startswith(b"-----BEGIN PGP"):
                output(["gpg", "--batch", f"--homedir={home}", f"--output={ring}", "--dearmor", str(keys)], log=log)
            else:
                shutil.copyfile(keys, ring)
            output(["gpgv", f"--homedir={home}", f"--keyring={ring}", str(signature), str(file)], log=log, timeout=600)
        except OSError as error:
            raise InputError(f"{key}.key of image.toml: {base / source.key}: {error.strerror}") from error
        except CommandFailed as error:
            if error.status == 127:
                raise
            raise InputError(
                f"{key}.key of image.toml: the signature of {source.tarball} is not by one of these keys, or not of "
                "these bytes"
            ) from error


def _decompress(file: Path, tar: Path, *, log: BuildLog, timeout: float) -> None:
    tool = _DECOMPRESSORS.get(file.suffix)
    if tool is None:
        shutil.copyfile(file, tar)
        return
    with tar.open("wb") as out:
        run([tool, "--decompress", "--stdout", str(file)], log=log, timeout=timeout, stdout=out)
