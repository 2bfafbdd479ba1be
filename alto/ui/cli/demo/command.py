"""The `alto demo` command: who may, where the story is told, and how it ends."""

import os
import shutil
import signal
import sys

import click

from alto.ui.cli import doctor, options
from alto.ui.cli.demo import traffic
from alto.ui.cli.demo.machine import free_pool
from alto.ui.cli.demo.story import Story, as_json
from alto.ui.cli.failures import Exit, Failure

PLOT_WIDTH_MAX = 120


@click.command(cls=options.Command)
@click.option("--keep", is_flag=True, help="Leave the cloud running.")
@click.option("--json", "json_", is_flag=True, help="The result as JSON on stdout; the story goes to stderr.")
@click.option("--pool", metavar="CIDR", help="Public addresses come from here (default: a loopback pool nobody uses).")
def demo(keep: bool, json_: bool, pool: str | None) -> int:
    """Start a cloud, serve, scale out, kill a machine, kill the control plane, scale in, and leave nothing behind."""
    if os.geteuid() != 0:
        raise Failure(
            "real machines need root",
            why="network namespaces, taps and packet rules are root's to make",
            hint="sudo alto demo",
            exit=Exit.DENIED,
        )
    lacking = [one for one in doctor.examine_machine() if one.verdict is doctor.Verdict.NO]
    if lacking:
        raise Failure(
            "this machine lacks something", why="; ".join(f"{one.check}: {one.what}" for one in lacking), hint=lacking[0].next
        )
    stream = sys.stderr if json_ else sys.stdout
    story = Story(lambda line: print(line, file=stream, flush=True), pool=pool or free_pool(), keep=keep)
    failure: Failure | None = None
    # As Ctrl-C: the cloud is taken away in any case.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        story.run()
    except Failure as caught:
        failure = caught
        story.checks.check("the story came to its end", False, caught.what)
    if json_:
        print(as_json(story), flush=True)
    width = max(20, min(shutil.get_terminal_size((100, 24)).columns - 25, PLOT_WIDTH_MAX))
    unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
    print("\n".join(["", *traffic.plot(story.requests, story.events, width=width, unicode=unicode)]), file=stream)
    print("\n".join(["", *story.checks.table()]), file=stream)
    good = sum(check.passed for check in story.checks.all)
    print(f"\n{good} of {len(story.checks.all)} checks passed in {story.seconds:.0f} s", file=stream, flush=True)
    if failure is not None:
        raise failure
    return Exit.DONE if story.checks.passed else Exit.FAILED
