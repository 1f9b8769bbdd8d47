"""What both command lines share: lazily imported commands and one table of exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from assay.core import errors
from assay.core.version import __version__


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that ``--help`` stays quick.

    ``lazy`` maps a command's name to (``module:attribute``, its one-line help).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in alphabetical order."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module_name, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module_name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands by their given help, without importing them."""
        eager = {
            name: command.get_short_help_str(limit=80) for name, command in self.commands.items()
        }
        lazy = {name: text for name, (_, text) in self._lazy.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted((eager | lazy).items()))


def global_options(group: click.Group) -> click.Group:
    """Adds ``--version``, ``--log-level`` and ``--log-json`` to a program's top group."""
    group = click.version_option(__version__, prog_name=group.name)(group)
    level = click.Option(
        ["--log-level"],
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        expose_value=False,
        callback=_set_level,
        is_eager=True,
        help="How much to say on stderr.",
    )
    lines = click.Option(
        ["--log-json"],
        is_flag=True,
        expose_value=False,
        callback=_set_json,
        is_eager=True,
        help="Log JSON lines.",
    )
    group.params = [level, lines, *group.params]
    return group


def _set_level(ctx: click.Context, _param: click.Parameter, value: str) -> None:
    ctx.meta["assay.level"] = value
    _configure(ctx)


def _set_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta["assay.json"] = value
    _configure(ctx)


def _configure(ctx: click.Context) -> None:
    # Imported here: structlog is slow to import, and --help and --version say nothing.
    from assay.core import log

    log.configure(ctx.meta.get("assay.level", "info"), json_lines=ctx.meta.get("assay.json", False))


def run(group: click.Group, env_prefix: str) -> NoReturn:
    """Runs a program: an :class:`AssayError` is printed plainly and decides the exit code."""
    try:
        group.main(standalone_mode=False, auto_envvar_prefix=env_prefix)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(errors.EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(errors.EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(errors.EXIT_OK)
    except errors.AssayError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.meaning.exit_code)
    sys.exit(errors.EXIT_OK)
