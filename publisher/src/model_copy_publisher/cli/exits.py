"""How a command ends: its exit code, and one sentence for a person with what to do next."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable

import click

from model_copy_publisher.errors import (
    BrokerError,
    InvalidRequestError,
    NoReplyError,
    NotWrittenError,
    UnknownRequestError,
)
from model_copy_publisher.terminal import printable, say

DONE, NOT_DONE, WRONG, NO_ANSWER, NO_BROKER, BUG, DETACHED, CUT_OFF = 0, 1, 2, 3, 4, 70, 130, 141

EXIT_CODES = """\b
Exit codes:
  0    succeeded or validated; without --wait: published
  1    failed, rejected or cancelled; no such request
  2    usage error or invalid row; nothing was sent
  3    no reply in time; the copy may go on
  4    could not publish, subscribe, or write the journal or the results
  130  detached by Ctrl-C or SIGTERM; the copy goes on
  141  standard output was closed, as after | head; the copy goes on
"""
OF_ANOTHER_SOURCE = "If another source published it, name that source: --request-source."


def ending(
    work: Callable[[], int],
    *,
    debug: bool,
    on_no_reply: Callable[[], None] = lambda: None,
    on_no_broker: Callable[[BrokerError], None] = lambda _: None,
    on_not_written: Callable[[], None] = lambda: None,
    on_interrupt: Callable[[], int] = lambda: DETACHED,
) -> int:
    """Do ``work`` and return the exit code, whatever happens; the hooks add to what is said.

    Raises:
        UsageError: what was asked for breaks the contract; click shows it.
    """
    # As Ctrl-C: a stopped task detaches too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _writing(work, on_not_written)
    except InvalidRequestError as error:
        raise click.UsageError(str(error)) from error
    except UnknownRequestError as error:
        say(f"{printable(str(error))} {OF_ANOTHER_SOURCE}")
        return NOT_DONE
    except NoReplyError as error:
        say(printable(str(error)))
        on_no_reply()
        return NO_ANSWER
    except BrokerError as error:
        say(f"{printable(str(error))}\n{printable(error.advice)}")
        on_no_broker(error)
        if debug:
            say("".join(traceback.format_exception(error)))
        return NO_BROKER
    except KeyboardInterrupt:
        return on_interrupt()
    except (click.ClickException, click.exceptions.Exit):
        raise  # click's own
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        if debug:
            say("".join(traceback.format_exception(error)))
        why = printable(f"{type(error).__name__}: {error}")
        say(f"This is a bug: {why}\nPlease report the traceback that --debug shows.")
        return BUG


def _writing(work: Callable[[], int], on_not_written: Callable[[], None]) -> int:
    """Do ``work``, and tell what of it could not be written."""
    try:
        return work()
    except BrokenPipeError:
        # Not 1, which means that a copy failed; a shell says the same of whatever SIGPIPE ends.
        _write_nowhere()
        return CUT_OFF
    except NotWrittenError as error:
        sentence = str(error)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}:
            raise
        sentence = f"Standard output cannot be written: {error.strerror}."
        _write_nowhere()
    say(printable(sentence))
    on_not_written()
    return NO_BROKER


def _write_nowhere() -> None:
    """Let go of standard output: its buffer would fail once more at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def stop_on_signals(stop: Callable[[], object]) -> None:
    """Have the first Ctrl-C or SIGTERM stop after what is in hand, and a second one at once."""

    def stop_once(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_once)
