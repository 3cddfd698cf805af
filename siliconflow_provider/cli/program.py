"""Run a command: parse arguments, build the client, print, and turn errors into a sentence and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from siliconflow_provider.cli.arguments import INTERRUPTED, Command
from siliconflow_provider.cli.commands import COMMANDS
from siliconflow_provider.cli.connection import client_of

PROGRAM = "python -m siliconflow_provider"
NOT_AS_WANTED, UNUSABLE = 1, 2
# As shells report a program that SIGPIPE has ended.
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code.

    It is 0 for success, 1 if a file or a batch is not as wanted, and 2 if the arguments or the connection are not
    usable, or the service could not be asked.

    :raises SystemExit: with code 2 if an argument is unknown or missing, and with code 0 after `--help`
    """
    parser = argparse.ArgumentParser(prog=PROGRAM, description="SiliconFlow batch inference without a DAG.")
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = parsers.add_parser(
            command.name, help=command.summary, description=f"{command.summary[:1].upper()}{command.summary[1:]}."
        )
        subparser.set_defaults(command=command)
        for argument in command.arguments:
            subparser.add_argument(*argument.flags, **argument.settings)
    options = parser.parse_args(arguments)
    return run(options.command, options, PROGRAM)


def run(command: Command, options: argparse.Namespace, program: str) -> int:
    """Run a command with parsed arguments, and return the exit code.

    :param program: the command line without command and arguments, for errors
    """
    client = None
    try:
        # Whatever Airflow prints must not be among the output, which others parse.
        with redirect_stdout(sys.stderr), _warnings_on_stderr():
            client = client_of(options) if command.needs_client else None
            outcome = command.load()(options, client)
        if outcome.output:
            encoding = sys.stdout.encoding or "utf-8"
            print(outcome.output.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
        return outcome.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes the standard output once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        failure = error
    print(f"{program} {command.name}: {_text_of(failure, client)}", file=sys.stderr)
    return _code_of(failure)


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Print this package's warnings on the standard error output, whatever Airflow sets up. No log shows INFO."""
    logger, handler = logging.getLogger("siliconflow_provider"), logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.INFO))
    try:
        yield
    finally:
        logging.disable(disabled)
        logger.removeHandler(handler)
        logger.propagate = propagated


def _text_of(error: Exception, client: Any) -> str:
    """Return the text of an error without secrets and terminal commands. It may have several lines."""
    from siliconflow_provider.api.redaction import without_queries
    from siliconflow_provider.api.service_texts import printable

    # Errors of this package are sentences, those of the system name their file.
    is_sentence = isinstance(error, (OSError, ValueError, argparse.ArgumentError)) or _is_of_service(error)
    text = str(error) if is_sentence else f"unexpected {type(error).__name__}: {error}"
    text = without_queries(text) if client is None else client.without_secrets(text)
    return "\n".join(map(printable, text.split("\n")))


def _code_of(error: Exception) -> int:
    if _is_of_service(error):
        from siliconflow_provider.api.errors import BadRequestError, NotFoundError

        return NOT_AS_WANTED if isinstance(error, (BadRequestError, NotFoundError)) else UNUSABLE
    return NOT_AS_WANTED if isinstance(error, (OSError, ValueError)) else UNUSABLE


def _is_of_service(error: Exception) -> bool:
    from siliconflow_provider.api.errors import SiliconFlowError

    return isinstance(error, SiliconFlowError)
