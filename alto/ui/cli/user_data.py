"""User data, before a launch and after it: what would not run as its writer thinks, and what the console says came of it.

A finding is a warning: the cloud takes any bytes, and a guest may know what to do with them. Pure: the file's bytes, the facts
about this machine and the console's bytes come in.
"""

import re
from collections.abc import Iterator

import msgspec

SIZE_MAX = 16 * 1024  # bytes, as EC2 has it: more is refused
SHOWN_MAX = 40
TAIL_LINES = 5

# What cloud-init and its kin act on ("User-Data Formats", cloud-init's documentation).
_STARTS = (
    b"#!",
    b"#cloud-config",
    b"#cloud-boothook",
    b"#include",
    b"#part-handler",
    b"#upstart-job",
    b"## template: jinja",
    b"MIME-Version:",
    b"Content-Type:",
    b"\x1f\x8b",  # gzip
)
_SHELLS = (b"/bin/sh", b"/bin/ash", b"/usr/bin/env sh", b"/bin/busybox sh")
_MARK = b"\xef\xbb\xbf"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    why: str
    hint: str

    def lines(self) -> list[str]:
        return [f"warning: {self.what}", f"  {self.why}", f"  try: {self.hint}"]


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that the user data was written on."""

    hostname: str
    home: str


def findings(data: bytes, here: Here, *, tiny: bool) -> Iterator[Finding]:
    """`tiny`: it is for the image that Alto brings, which runs scripts with busybox and nothing else."""
    if not data.strip():
        yield Finding(what="the user data is empty", why="nothing will run", hint="leave --user-data away")
        return
    yield from _first_line(data)
    if data.startswith(b"#cloud-config"):
        yield from _yaml(data)
    if tiny:
        yield from _tiny(data)
    yield from _expanded(data, here)


def _first_line(data: bytes) -> Iterator[Finding]:
    first = data.split(b"\n", 1)[0]
    shown = first[:SHOWN_MAX].decode(errors="replace").strip()
    if data.startswith(_MARK):
        yield Finding(
            what="the user data begins with a byte order mark",
            why="no guest sees the #! or #cloud-config behind it",
            hint="save the file as UTF-8 without BOM",
        )
    elif data.lstrip().startswith(_STARTS) and not data.startswith(_STARTS):
        yield Finding(
            what="the user data begins with white space",
            why="the #! or #cloud-config must be the very first bytes",
            hint="take away what stands before it",
        )
    elif not data.startswith(_STARTS):
        yield Finding(
            what=f"the first line of the user data is '{shown}'",
            why="guests run what begins with #! and read what begins with #cloud-config; the rest is kept and not run",
            hint="begin a script with #!/bin/sh",
        )
    elif data.startswith(b"#!") and first.endswith(b"\r"):
        yield Finding(
            what="the script's lines end as Windows ends them (CR LF)",
            why=f"the kernel looks for a program whose name ends in a carriage return: '{shown}'",
            hint="sed -i 's/\\r$//' FILE",
        )


def _yaml(data: bytes) -> Iterator[Finding]:
    import yaml

    try:
        found = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f" in line {mark.line + 1}" if mark is not None else ""
        yield Finding(
            what=f"the #cloud-config is no YAML{at}",
            why=f"{getattr(error, 'problem', None) or error}",
            hint="cloud-init schema -c FILE    (or any YAML checker)",
        )
        return
    if not isinstance(found, dict):
        yield Finding(
            what="the #cloud-config has no keys",
            why=f"it must be a mapping, and is {'nothing' if found is None else type(found).__name__}",
            hint="for example: packages: [nginx]",
        )


def _tiny(data: bytes) -> Iterator[Finding]:
    if data.startswith(b"#!"):
        program = data[2:].split(b"\n", 1)[0].strip()
        if not any(program == shell or program.startswith(shell + b" ") for shell in _SHELLS):
            yield Finding(
                what=f"the script wants {program.decode(errors='replace')[:SHOWN_MAX]}",
                why="the image that Alto brings has no shell but busybox's",
                hint="begin it with #!/bin/sh, or launch another image",
            )
    elif data.startswith(_STARTS):
        yield Finding(
            what="the image that Alto brings runs scripts only",
            why="it has no cloud-init, so nobody reads this",
            hint="begin it with #!/bin/sh, or launch another image",
        )


def _expanded(data: bytes, here: Here) -> Iterator[Finding]:
    """The trap of `echo "wget http://collector/$HOSTNAME" >> FILE`: the variable is this machine's, and not the guest's."""
    text = data.decode(errors="replace")
    for value, variable in ((here.hostname, "$HOSTNAME"), (here.home, "$HOME")):
        # Short names stand in many words; a path may go on.
        end = r"(?![\w.-])" if variable == "$HOSTNAME" else r"(?![\w-])"
        if len(value) > 2 and value not in ("localhost", "/root") and re.search(rf"(?<![\w.-]){re.escape(value)}{end}", text):
            yield Finding(
                what=f"the user data names this machine's {variable}: {value}",
                why="a shell here has put it in while the file was written; in the guest it is not true",
                hint=f"write the file with '{variable}' in single quotes, or with cat <<'EOF'",
            )
    if text.startswith(("#!/bin/sh", "#!/bin/ash", "#!/bin/dash")) and re.search(r"\$\{?HOSTNAME\b", text):
        yield Finding(
            what="the script uses $HOSTNAME",
            why="bash sets it, sh does not: it is empty at the first boot",
            hint="$(hostname)",
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`exit` is None when whoever ran it tells none."""

    said: str
    exit: int | None = None
    tail: tuple[str, ...] = ()


_BOOT = "alto tiny: boot "
_BEGUN = "alto tiny: user data begins"
_KEPT = "alto tiny: user data is kept, not run"
_ENDED = re.compile(r"alto tiny: user data ended with (\d+)(?: after (\d+) s)?")
_CLOUD_INIT = re.compile(r"Cloud-init v\. \S+ finished at .*?Up ([\d.]+) seconds")
_FAILED = re.compile(r"Failed running \S*/scripts/(\S+) \[(\d+)\]")


def outcome(console: bytes) -> Outcome | None:
    """What came of the user data, as the console tells it; None: it does not tell.

    The tiny image and cloud-init each say it in their own words. The last word counts: a guest runs it once in its life, but
    a console may have been cut.
    """
    lines = console.decode(errors="replace").replace("\r", "").split("\n")
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if ended := _ENDED.search(line):
            after = f" after {ended[2]} s" if ended[2] else ""
            return Outcome(said=f"exit {ended[1]}{after}", exit=int(ended[1]), tail=_before(lines, number))
        if _KEPT in line:
            return Outcome(said="kept and not run: its first line has no #!")
        if _BEGUN in line:
            return Outcome(said="runs", tail=tuple(lines[number + 1 :][-TAIL_LINES:]))
        if _CLOUD_INIT.search(line):
            failed = [match for one in lines[:number] if (match := _FAILED.search(one))]
            if failed:
                name, code = failed[-1][1], int(failed[-1][2])
                return Outcome(said=f"cloud-init ran {name}: exit {code}", exit=code, tail=_before(lines, number))
            return Outcome(said="cloud-init finished, no script failed")
    return None


def _before(lines: list[str], end: int) -> tuple[str, ...]:
    """The last words before line `end`, back to where the run or the boot began."""
    begin = end
    while begin > 0 and end - begin < TAIL_LINES and _BEGUN not in lines[begin - 1] and _BOOT not in lines[begin - 1]:
        begin -= 1
    return tuple(line for line in lines[begin:end] if line.strip())
