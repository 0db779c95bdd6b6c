"""What execnet runs on a build host in place of pytest-xdist's own worker module: sent there as text, never imported.

On the host, `channel` is there, and our code and pytest-xdist can be imported.
"""

if __name__ == "__channelexec__":
    from pipeline.plugin.hosted import work

    work(channel)  # type: ignore[name-defined]  # noqa: F821
