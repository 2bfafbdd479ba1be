"""The `alto` command: finds a subcommand, runs it, and turns what goes wrong into three lines and an exit code.

Every subcommand's module is imported only when it is called, so that `alto --version` costs little more than Python.
Exit codes: see failures.py.
"""

import importlib
import os
import sys
from collections.abc import Iterable, Sequence

import click

import alto as alto_package
from alto.ui.cli.failures import Exit, Failure

# Where each command lives: name -> (module, attribute, one line for the list of commands).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("cloud", "up", "Start the cloud on this machine"),
    "down": ("cloud", "down", "Stop it, and take away all it made"),
    "status": ("cloud", "status", "What there is, and what is being waited for"),
    "env": ("environment", "env", "Environment for aws, boto3 and Terraform"),
    "doctor": ("doctor", "doctor", "What this machine lacks, and what to do"),
    "audit": ("cloud", "audit", "Check everything that must always be true"),
    "demo": ("demo.command", "demo", "The whole story in a few minutes, each step checked"),
    "account": ("accounts", "account", "Accounts and their keys"),
    "agent": ("agent", "agent", "Make this machine a host of a cloud elsewhere"),
    "host": ("hosts", "host", "Where instances run"),
    "image": ("images", "image", "What instances are launched from"),
    "instance": ("instances", "instance", "Virtual machines"),
    "master-key": ("master_key", "master_key", "What opens encrypted volumes"),
    "net": ("net", "net", "What becomes of packets, and why"),
    "placement": ("placements", "placement", "Placement groups: who stands beside whom"),
    "service": ("services", "service", "Instances behind a load balancer"),
    "snapshot": ("snapshots", "snapshot", "Copies of volumes as they were"),
    "template": ("templates", "template", "Launch templates"),
    "volume": ("volumes", "volume", "Disks that come and go"),
}

# What looks like the hyphens of an option and is none: figure dash, en dash, em dash, bar, minus, fullwidth hyphen.
DASHES = "\u2012\u2013\u2014\u2015\u2212\uff0d"

EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not allowed, 5 conflict, quota or capacity, "
    "6 timed out, 7 cloud not reachable, 130 interrupted."
)


class Lazy(click.Group):
    """Imports a command when it is asked for by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"alto.ui.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            raise unknown_command(args[0], COMMANDS, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, _, help) in COMMANDS.items()])


def unknown_command(given: str, known: Iterable[str], ctx: click.Context) -> click.UsageError:
    import difflib

    known = list(known)
    close = difflib.get_close_matches(given, known, n=1)
    question = f" Did you mean '{close[0]}'?" if close else f" There are: {', '.join(known)}."
    return click.UsageError(f"There is no command '{given}'.{question}", ctx)


@click.group(cls=Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, p, v: _show_version(c, v))
@click.option("--state", metavar="FOLDER", help="The cloud's state folder (default: ALTO_STATE, or this machine's).")
@click.pass_context
def alto(ctx: click.Context, state: str | None) -> None:
    """An AWS-compatible cloud on this machine. `alto up` starts it; then aws, boto3 and Terraform work on it."""
    ctx.meta["alto.state"] = state


def _show_version(ctx: click.Context, wanted: bool) -> None:
    if not wanted:
        return
    print(f"alto {alto_package.__version__}")
    ctx.exit()


def refuse_dashes(arguments: Sequence[str]) -> None:
    """An option that was pasted from a page has a dash no program understands. Raises: Failure."""
    for argument in arguments:
        if argument == "--":
            return
        if argument[:1] and argument[0] in DASHES:
            meant = "--" + argument.lstrip(DASHES + "-")
            raise Failure(
                f"'{argument}' begins with a dash that is no hyphen (U+{ord(argument[0]):04X})",
                why=f"did you mean {meant}?",
                hint="type it anew: pages and word processors turn -- into a dash",
                exit=Exit.USAGE,
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit code."""
    try:
        refuse_dashes(arguments)
        result = alto.main(args=list(arguments), prog_name="alto", standalone_mode=False)
        return result if isinstance(result, int) else Exit.DONE
    except Failure as failure:
        _complain(failure.lines())
        return failure.exit
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        _complain(["interrupted"])
        return Exit.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return Exit.DONE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "alto"
        _complain([f"error: {error.format_message()}", f"try: {path} --help"])
        return Exit.USAGE
    except click.ClickException as error:
        _complain([f"error: {error.format_message()}"])
        return Exit.FAILED
    except KeyboardInterrupt:
        _complain(["interrupted"])
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has read enough; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE


def _complain(lines: Sequence[str]) -> None:
    from alto.ui.cli.output import colours

    first, *rest = lines
    if colours(sys.stderr):
        first = f"\x1b[31m{first}\x1b[0m"
    print("\n".join([first, *rest]), file=sys.stderr)


if __name__ == "__main__":
    main()
