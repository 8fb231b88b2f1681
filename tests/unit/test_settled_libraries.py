"""What the command line says to libraries before they are imported, seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_WRITABLE = """
from pathlib import Path
from ratchet.cli import settle_libraries
settle_libraries()
import pyarrow as pa
held = [pa.array(range(1000)) for _ in range(5)]
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:")))
"""


def test_arrow_takes_no_more_of_a_limited_process_than_it_uses():
    """What the process may write to, which is what `ulimit -d` counts, stays far below the gibibyte that Arrow's pool reserves."""
    done = subprocess.run([sys.executable, "-c", _WRITABLE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 600 * 1024  # KiB
