"""What emerge's text means: one clear line, and what would be right.

emerge ends with status 1 for nearly everything, so its text alone tells. The texts are those of Portage 3.0.57 to
3.0.83; tests/portage has each of them made by a real emerge.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.errors import GoldspawnError, InputError

LOG_IS = "its log is "
"""How a hint begins that names a file of emerge's: where the builder root is thrown away, it is of no use."""

_Rule = tuple[str, Callable[["re.Match[str]", str], GoldspawnError]]


def explain(text: str) -> GoldspawnError | None:
    """What the output of a failed emerge says, None where none of the known texts is in it."""
    for pattern, tell in _RULES:
        if (found := re.search(pattern, text, re.M)) is not None:
            return tell(found, text)
    return None


def _plain(template: str, hint: str, kind: type[GoldspawnError] = InputError) -> Callable[..., GoldspawnError]:
    """A line made of what was matched."""

    def tell(found: re.Match[str], text: str) -> GoldspawnError:
        groups = {name: value or "" for name, value in found.groupdict().items()}
        return kind(template.format(**groups), hint=hint.format(**groups))

    return tell


def _unknown(found: re.Match[str], text: str) -> GoldspawnError:
    atom = found["atom"]
    chain = re.findall(r'\(dependency required by "([^"]+)" \[(\w+)\]\)', text)
    parents = [name for name, kind in chain if kind != "argument"]
    lost = re.search(r"location attribute set to nonexistent directory: '([^']+)'", text)
    if lost is not None and not parents:
        return InputError(
            f"no repository has {atom}", hint=f"repos.conf names a repository that is not there, {lost[1]}: sync it"
        )
    if not parents:
        return InputError(
            f"no repository has {atom}", hint="correct its name, or add the repository that has it to repos.conf"
        )
    return InputError(
        f"no repository has {atom}, which {parents[0]} needs",
        hint=f"add the repository that has it to repos.conf, or mask {parents[0]}",
    )


def _masked(found: re.Match[str], text: str) -> GoldspawnError:
    atom = found["atom"]
    reasons = re.findall(r"^- (\S+?)(?:::\S+)? \(masked by: ([^\n]*)\)\s*$", text, re.M)
    if not reasons:
        return InputError(f"{atom} is masked", hint="unmask it in package.unmask or package.accept_keywords")
    cpv, why = reasons[0]
    if "keyword" in why and "license" not in why:
        keyword = re.search(r"(\S+) keyword", why)
        word = keyword[1] if keyword is not None else "**"
        word = "**" if word == "missing" else word
        return InputError(
            f"{atom}: {cpv} is not keyworded for this architecture ({why})",
            hint=f'add "={cpv} {word}" to package.accept_keywords',
        )
    if "license" in why:
        names = re.sub(r" license\(s\).*", "", why)
        return InputError(
            f"{atom}: the licence of {cpv} is not accepted ({names})",
            hint=f'add "={cpv} {names}" to package.license, or accept it in ACCEPT_LICENSE',
        )
    return InputError(f"{atom}: {cpv} is masked by {why}", hint=f'add "={cpv}" to package.unmask, or name another')


def _required_use(found: re.Match[str], text: str) -> GoldspawnError:
    unmet = re.search(r"The following REQUIRED_USE flag constraints are unsatisfied:\s*\n\s*(\S[^\n]*)", text)
    rule = unmet[1].strip() if unmet is not None else "its REQUIRED_USE"
    return InputError(
        f"the USE flags of {found['cpv']} contradict each other: it requires {rule}",
        hint="set its flags in package.use so that they meet that",
    )


def _conflict(found: re.Match[str], text: str) -> GoldspawnError:
    named = re.findall(r"^\s*\((\S+?):[^)]*\)[^\n]* pulled in by", text, re.M)
    slot = re.search(r"^(\S+/\S+:\S+)(?: for \S+)?\s*$", text[found.end() :], re.M)
    what = slot[1] if slot is not None else "one slot"
    names = " and ".join(dict.fromkeys(named)) or "several versions"
    return InputError(
        f"{what}: {names} cannot both be installed, and different packages need each of them",
        hint="mask one of them in package.mask, or change what needs it",
    )


def _blocked(found: re.Match[str], text: str) -> GoldspawnError:
    line = re.search(r'\[blocks [^\]]*\]\s*(\S+)(?:\s+\("([^"]+)" is (?:hard |soft )?blocking ([^)]+)\))?', text)
    if line is None or line[3] is None:
        return InputError("two packages block each other", hint="mask one of them in package.mask")
    return InputError(
        f"{line[3]} cannot be installed beside a package that blocks it ({line[2]})",
        hint="leave one of the two out, or mask it in package.mask",
    )


def _built(found: re.Match[str], text: str) -> GoldspawnError:
    log = re.search(r"(?:build log is located at|Build log:|log:?)\s*'?(/[^\s']+)'?", text)
    error = re.findall(r"^.*(?:\berror:|undefined reference|fatal:|No such file or directory).*$", text, re.M)
    first = error[0].strip() if error else (found["said"] or "").strip()
    phase = f" in its {found['phase']} phase" if found["phase"] else ""
    where = LOG_IS + (log[1] if log is not None else "in PORTAGE_TMPDIR")
    return GoldspawnError(f"{found['cpv'].split('::')[0]} failed{phase}" + (f": {first}" if first else ""), hint=where)


def _unsigned(found: re.Match[str], text: str) -> GoldspawnError:
    named = re.search(r"(?:Error extracting|Invalid binary package:) '[^']*?/([^/']+?\.gpkg\.tar)", text)
    what = named[1] if named is not None else "a binary package"
    if "appears unsigned" in text:
        return GoldspawnError(f"{what} has no signature", hint="sign it, or set `verify = false` for its binhost")
    return GoldspawnError(
        f"{what} has a signature by none of the keys that this Portage trusts",
        hint="its keys are in /etc/portage/gnupg (BINPKG_GPG_VERIFY_GPG_HOME); getuto(1) makes them",
    )


_RULES: tuple[_Rule, ...] = (
    (
        r"No space left on device",
        _plain("no space is left where emerge writes", "free some room, or raise the quota", GoldspawnError),
    ),
    (
        r"binpkg appears unsigned|GnuPG verification failed",
        _unsigned,
    ),
    (
        r"(?:MissingSectionHeader|Duplicate\w+|Parsing)Error.*repos\.conf|Error while reading repo config file: .*",
        _plain("repos.conf cannot be read", "it has sections [NAME] with lines such as location = /var/db/repos/NAME"),
    ),
    (
        r"ParseError: (?P<why>.*Parent '(?P<parent>[^']+)' not found.*)",
        _plain("the profile has a parent that does not exist: {parent}", "correct the profile's file parent"),
    ),
    (
        r"Your current profile is invalid|no profile is set|make\.profile .*(?:not a symlink|does not exist)",
        _plain(
            "the profile is invalid, or there is none",
            "etc/portage/make.profile has to lead to a profile of a configured repository, whose parents exist",
        ),
    ),
    (
        r"^!!! '(?P<atom>[^']+)' is not a valid package atom",
        _plain('"{atom}" is no package atom', "write it as category/name"),
    ),
    (
        r"[Tt]here are no sets to satisfy '?(?P<set>[^'.\s]+)'?",
        _plain("there is no set {set}", "the usual ones are @system, @world and @profile"),
    ),
    # Before what is masked: with --debug, backtracking tells of masks of its own.
    (r"Multiple package instances within a single package slot have been pulled", _conflict),
    (r"Error: The above package list contains packages which cannot be|\[blocks [^\]]*\]", _blocked),
    (r"(?:there are no (?:ebuilds|binary packages)(?: \S+)* to satisfy) \"(?P<atom>[^\"]+)\"", _unknown),
    (r"All ebuilds that could satisfy \"(?P<atom>[^\"]+)\"[^\n]*have been masked", _masked),
    (
        r"The ebuild selected to satisfy \"[^\"]+\"[^\n]* has unmet requirements\.\n- (?P<cpv>\S+?)(?:::\S+)?\s",
        _required_use,
    ),
    (
        r"(?:Digest verification failed:|etched file: '?(?P<got>[^'\s]+)'?[^\n]*)\s*\n!!! (?:Reason: |(?P<file>/\S+))",
        _plain(
            "a fetched file is not the one that the Manifest describes: {file}{got}",
            "remove it from DISTDIR; if it comes back, the mirror has another file, or the Manifest is wrong",
        ),
    ),
    (
        r"Couldn't download '(?P<file>[^']+)'",
        _plain(
            "{file} could not be fetched",
            "look at the network and at SRC_URI, or put the file into DISTDIR",
            GoldspawnError,
        ),
    ),
    (r"ERROR: (?P<cpv>\S+) failed(?: \((?P<phase>\w+) phase\))?:(?:\s*\n[ *]*(?P<said>\S[^\n]*))?", _built),
    (
        r"(?:[Rr]epository|location attribute).*nonexistent directory: '(?P<path>[^']+)'",
        _plain("repos.conf names a repository that is not there: {path}", "correct its location, or sync it"),
    ),
)
