"""Started by execnet in place of a Python: becomes the ssh that starts one on a build host, with the same arguments.

    python -I launch.py FILE ARGUMENT...

FILE is a JSON object: `ssh`, a command, and `line`, the line of shell to run there, at whose end the arguments are put.
Imports nothing of ours.
"""

import json
import os
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    line = f"{told['line']} {shlex.join(sys.argv[2:])}"
    os.execvp(told["ssh"][0], [*told["ssh"], f"exec sh -c {shlex.quote(line)}"])
