"""What people give to and read from the command line: names, reasons and moments that are odd."""

from __future__ import annotations

import os
import pwd

import pytest
import typer

from ratchet.cli.history import moment
from ratchet.cli.show import account, plain, readable
from ratchet.errors import UsageError


def test_a_reason_cannot_pass_for_lines_of_ours():
    """Line breaks, escape sequences, marks that turn the direction round, and markup are shown, not obeyed."""
    assert plain("a\n 9 promote\x1b[31m\u202e [bold]x ü漢") == "a\\n 9 promote\\x1b[31m\\u202e \\[bold]x ü漢"


def test_words_that_no_record_can_hold_are_refused():
    """Bytes that are no UTF-8, and more than the forms take."""
    assert readable("ü" * 1000) == "ü" * 1000
    for words in ("bad \udcff byte", "y" * 1001):
        with pytest.raises(typer.BadParameter, match="expected"):
            readable(words)


def test_nobody_is_whom_the_environment_says(monkeypatch):
    """Who may override is decided by the account, not by a variable that anybody can set."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "alice")
    assert account() == pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_a_moment_out_of_all_time_is_refused(text):
    """In words, not by a traceback."""
    with pytest.raises(UsageError, match="years 1 to 9999"):
        moment(text)
