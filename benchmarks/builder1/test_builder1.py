"""What its users want to know of builder1."""

from __future__ import annotations

import pytest
from testinfra.host import Host

SOURCE = """
#include <stdio.h>
int main(void) { return puts("works") < 0; }
"""


@pytest.mark.parametrize("compiler", ["cc", "clang"])
def test_it_compiles(compiler: str, machine: Host) -> None:
    machine.check_output("printf %%s %s > /tmp/it.c", SOURCE)
    assert machine.check_output(f"{compiler} -o /tmp/it /tmp/it.c && /tmp/it") == "works"
