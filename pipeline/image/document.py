"""The JSON schema of image.toml for editors, and its reference page: both from the dataclasses, never by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline import bootstrap
from pipeline.image.definition import DEFAULT_METHOD, Definition, adapter

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA_FILE = DOCS / "image.schema.json"
PAGE_FILE = DOCS / "image.toml.md"

Schema = dict[str, Any]

_INTRODUCTION = """\
An image is a folder with `image.toml`, `root/` (files that are copied over its root file system) and `test_*.py` (its
acceptance tests). The folder's name is the image's: 1 to 64 lower case letters, digits and hyphens. Each section may be
left out; an empty file is an image.

For completion and checks in an editor (taplo, VS Code), begin the file with a line
`#:schema <path to docs/image.schema.json>`.
"""

EXAMPLE = """\
description = "A web server, with a limit for everything"

[bootstrap]
method = "mmdebstrap"
suite = "stable"
components = ["main", "contrib"]
packages = ["ca-certificates"]

[[bootstrap.repositories]]
uri = "https://packages.example.org/debian"
suite = "stable"
components = ["main"]
key = "keys/example.asc"

[profile]
packages = ["nginx-light", "openssh-server", "tzdata"]
enable = ["nginx.service"]
disable = ["apt-daily.timer"]
mask = ["apt-daily-upgrade.timer"]
hostname = "web.example.org"
locale = "C.UTF-8"
timezone = "Europe/Berlin"
run = ["nginx -t", "install -d -o deploy -g www-data /srv/web"]

[[profile.groups]]
name = "site"
gid = 2000

[[profile.users]]
name = "deploy"
uid = 2000
groups = ["site", "www-data"]
shell = "/bin/bash"
authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0l7mZ1vGm6Yk0x6Xcl0m9v1cX0 deploy@example.org"]

[boot]
memory_max = "512M"
tasks_max = 200
cpu_quota = 150
nofile = 8192
private_users = true
allow_failed = ["systemd-networkd-wait-online.service"]
credentials = { "login.issue" = "web.example.org, made by goldspawn" }
timeout = 60

[nspawn.exec]
capability = ["CAP_NET_ADMIN"]
environment = { SITE = "example.org" }
limits = { core = "0" }

[nspawn.files]
bind_read_only = ["/srv/www:/var/www/shared:idmap"]
temporary_file_system = ["/var/cache/nginx:size=64M"]

[nspawn.network]
bridge = "br0"

[service]
memory_high = "400M"
cpu_weight = 200
restart = "on-failure"

[secrets.deploy-key]
file = "~/.ssh/deploy"
use = ["run"]

[secrets.db-password]
env = "DB_PASSWORD"

[checks]
journal = true
journal_allow = ["^dbus-daemon: .* not found"]
boot_seconds = 10
listen = ["tcp/80"]
setuid = ["/usr/bin/su", "/usr/bin/mount"]
world_writable = []
passwords = true
size_max = "1G"
unclean = true

[checks.exposure]
"nginx.service" = 9.6

[artifact]
compression = "zstd-3"
deltas = ["previous"]
keep = 5
"""
"""A file in which every section stands; a test reads it."""


def schema() -> Schema:
    """The JSON schema of image.toml (draft 2020-12), as taplo and VS Code read it."""
    made: Schema = adapter(Definition).json_schema()
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "image.toml of goldspawn"}
    made["description"] = "What a golden image is made of"
    for name, one in bootstrap.known().items():
        settings = made["$defs"][one.settings.__name__]
        if name != DEFAULT_METHOD:  # else a table without `method` would be a table of every method
            settings["required"] = sorted({*settings.get("required", []), "method"})
    _tidy(made)
    return made


def _tidy(node: Any) -> None:
    """Takes away what pydantic adds for forms: titles made of keys, and defaults that are null."""
    if isinstance(node, list):
        for one in node:
            _tidy(one)
        return
    if not isinstance(node, dict):
        return
    for name, one in node.get("properties", {}).items():
        if isinstance(one, dict) and one.get("title", "").lower().replace(" ", "_") == name:
            del one["title"]
        if isinstance(one, dict) and "default" in one and one["default"] is None:
            del one["default"]
            one["anyOf"] = [kind for kind in one.get("anyOf", []) if kind != {"type": "null"}]
            if len(one["anyOf"]) == 1:
                one.update(one.pop("anyOf")[0])
    for one in node.values():
        _tidy(one)


def page() -> str:
    """The reference page, in Markdown."""
    whole = schema()
    defs = whole["$defs"]
    lines = [
        "# image.toml",
        "",
        "<!-- Made by `python -m pipeline.image`; a test says when it is out of date. -->",
        "",
        *_INTRODUCTION.splitlines(),
        "",
        *_table({key: one for key, one in whole["properties"].items() if _is_plain(one)}),
        "",
        "## `[bootstrap]`",
        "",
        whole["properties"]["bootstrap"]["description"] + " `method` says how, and which other keys there are. "
        "Images with the same `[bootstrap]` share one.",
    ]
    for heading, keys, required in _methods(defs):
        lines += ["", heading, "", *_table(keys, required)]
    for key in ("profile", "boot", "nspawn", "service", "secrets", "checks", "artifact"):
        one = whole["properties"][key]
        title = f"[{key}.NAME]" if _each(one) else f"[{key}]"
        lines += _section(title, defs[_ref(one) or _each(one)], defs, prefix=key)
    lines += ["", "## A full example", "", "```toml", EXAMPLE.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _methods(defs: Schema) -> Iterator[tuple[str, Schema, list[str]]]:
    """Headings and keys of `[bootstrap]`: one table for methods that have the same keys but for their name."""
    groups: list[tuple[list[str], Schema]] = []
    for name, one in bootstrap.known().items():
        keys = {key: value for key, value in defs[one.settings.__name__]["properties"].items() if key != "method"}
        same = next((names for names, others in groups if others == keys), None)
        if same is None:
            groups.append(([name], keys))
        else:
            same.append(name)
    for names, keys in groups:
        names.sort(key=lambda name: name != DEFAULT_METHOD)
        told = []
        for name in names:
            words = defs[bootstrap.get(name).settings.__name__]["properties"]["method"]["description"].rstrip(".")
            told.append(f'`method = "{name}"`{" (default)" if name == DEFAULT_METHOD else ""}: {words}.')
        required = defs[bootstrap.get(names[0]).settings.__name__].get("required", [])
        yield "\n\n".join(["### " + ", ".join(names), *told]), keys, required
        for key, value in keys.items():
            for table, title in (
                (_ref(value.get("items", {})), f"[[bootstrap.{key}]]"),
                (_ref(value), f"[bootstrap.{key}]"),
            ):
                if table:
                    inner = defs[table]
                    heading = f"### `{title}`\n\n{_first_line(inner)}"
                    yield heading, inner["properties"], inner.get("required", [])


def _section(title: str, table: Schema, defs: Schema, *, prefix: str) -> Iterator[str]:
    level = "##" if title.startswith("[") and not title.startswith("[[") else "###"
    yield from ("", f"{level} `{title}`", "", _first_line(table))
    keys = {key: value for key, value in table["properties"].items() if not _ref(value)}
    if keys:
        yield from ("", *_table(keys, table.get("required", ())))
    for key, value in table["properties"].items():
        if inner := _ref(value):
            yield from _section(f"[{prefix}.{key}]", defs[inner], defs, prefix=f"{prefix}.{key}")
        if inner := _ref(value.get("items", {})):
            yield from _section(f"[[{prefix}.{key}]]", defs[inner], defs, prefix=f"{prefix}.{key}")


def _first_line(table: Schema) -> str:
    return str(table.get("description", "")).split("\n\n")[0].replace("\n", " ")


def _table(keys: Schema, required: Sequence[str] = ()) -> list[str]:
    lines = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for key, one in keys.items():
        default = f"`{json.dumps(one['default'])}`" if "default" in one else "(required)" if key in required else ""
        meaning = str(one.get("description", "")).replace("|", "\\|")
        lines.append(f"| `{key}` | {_type(one)} | {default} | {meaning} |")
    return lines


def _type(one: Schema) -> str:
    if "anyOf" in one:
        return " or ".join(dict.fromkeys(_type(kind) for kind in one["anyOf"]))
    if one.get("type") == "array":
        items = one.get("items", {})
        return "tables" if _ref(items) else f"list of {_type(items)}s"
    name = str(one.get("type", "table"))
    return {"integer": "whole number", "boolean": "true or false", "object": "table of strings"}.get(name, name)


def _is_plain(one: Schema) -> bool:
    """Whether a key's value is not a table, nor tables, with a section of its own."""
    return "$ref" not in one and "oneOf" not in one and not _each(one)


def _each(one: Schema) -> str:
    """The definition of each value of a table whose keys are names."""
    values = one.get("additionalProperties", {})
    return _ref(values) if isinstance(values, dict) else ""


def _ref(one: Schema) -> str:
    return str(one.get("$ref", "")).rsplit("/", 1)[-1]


def documents() -> dict[Path, str]:
    """The files that are made of the dataclasses, with what they must hold."""
    return {SCHEMA_FILE: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", PAGE_FILE: page()}
