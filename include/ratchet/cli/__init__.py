"""The command line: the same steps as the nightly DAG, in one process, and the services that they need.

Exit status: 0 a decision (promoted, refused, undecided or skipped), 1 an unexpected failure, 2 the spec or the command is
wrong, 3 the data was rejected.
"""

from __future__ import annotations

import os
import sys

import typer

from ratchet.cli import (
    actions,
    demo,
    explain,
    history,
    ledger,
    night,
    quarantine,
    replay,
    reproduce,
    score,
    segments,
    snapshot,
    stack,
    suite,
    tuning,
    watch,
)
from ratchet.errors import RatchetError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode="rich"
)
night.add_to(app)
history.add_to(app)
actions.add_to(app)
ledger.add_to(app)
replay.add_to(app)
reproduce.add_to(app)
explain.add_to(app)
segments.add_to(app)
score.add_to(app)
tuning.add_to(app)
snapshot.add_to(app)
quarantine.add_to(app)
suite.add_to(app)
stack.add_to(app)
watch.add_to(app)
demo.add_to(app)


def main() -> None:
    """Run the command line; turn our errors into words and exit statuses."""
    try:
        app()
    except RatchetError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def settle_libraries() -> None:
    """Say to libraries that are not imported yet how to behave beside others; what the environment says already stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on a shared machine
    # Arrow's memory comes from a gibibyte that is reserved; where a process may not write to much more (ulimit -d), let it count as it is used.
    os.environ.setdefault("MIMALLOC_ARENA_EAGER_COMMIT", "0")


def entry() -> None:
    """Run the command line as a process of its own.

    The process ends without Python's clean-up: with Great Expectations loaded, DuckDB's binding takes its own constants for
    leaks then, and prints a page of them under whatever was said.
    """
    settle_libraries()
    try:
        main()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    else:
        status = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
