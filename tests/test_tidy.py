"""Rules that can run do run: what no line of Alto may do, with the reason and what to do instead.

Goal: time, chance, files, processes and sockets come through `alto.kit.world` only, so that the whole system runs under
the simulator; and the small rules of style that a program can check. Method: every module's syntax tree against a literal
table; the exceptions are a literal table too, each with its reason. Every rule is shown to catch a planted example.
"""

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
CONFESSION = "TO" + "DO"  # so that this file does not trip over itself

INSTEAD = "through the World (alto/kit/world.py)"

# Modules nobody imports outside kit, and what to do instead.
MODULES: Mapping[str, str] = {
    "time": f"the clock {INSTEAD}",
    "random": f"chance {INSTEAD}",
    "secrets": f"chance {INSTEAD}",
    "uuid": f"ids from chance {INSTEAD}",
    "subprocess": f"processes {INSTEAD}",
    "multiprocessing": f"processes {INSTEAD}",
    "threading": "async code; blocking libraries stay in one driver",
    "concurrent": "async code; blocking libraries stay in one driver",
    "tempfile": f"files {INSTEAD}",
    "shutil": f"files {INSTEAD}",
    "glob": f"files {INSTEAD}",
    "http.client": "the command's client, or a driver of its own",
    "http.server": "the API's server",
    "urllib.request": "the API's server, or the command's client",
}

# Calls nobody makes outside kit: dotted names as they are written.
CALLS: Mapping[str, str] = {
    "open": f"files {INSTEAD}",
    "input": "the command line asks people, nobody else",
    "os.urandom": f"chance {INSTEAD}",
    "os.open": f"files {INSTEAD}",
    "os.remove": f"files {INSTEAD}",
    "os.unlink": f"files {INSTEAD}",
    "os.rename": f"files {INSTEAD}",
    "os.replace": f"files {INSTEAD}",
    "os.mkdir": f"files {INSTEAD}",
    "os.makedirs": f"files {INSTEAD}",
    "os.listdir": f"files {INSTEAD}",
    "os.scandir": f"files {INSTEAD}",
    "os.walk": f"files {INSTEAD}",
    "os.kill": f"processes {INSTEAD}",
    "os.fork": f"processes {INSTEAD}",
    "os.system": f"processes {INSTEAD}",
    "asyncio.sleep": "world.clock.sleep",
    "asyncio.create_subprocess_exec": f"processes {INSTEAD}",
    "asyncio.create_subprocess_shell": f"processes {INSTEAD}",
    "asyncio.open_connection": f"sockets {INSTEAD}",
    "asyncio.open_unix_connection": f"sockets {INSTEAD}",
    "asyncio.start_server": f"sockets {INSTEAD}",
    "asyncio.start_unix_server": f"sockets {INSTEAD}",
    # Its constants and address arithmetic are nobody's business; what opens or asks is.
    "socket.socket": f"sockets {INSTEAD}",
    "socket.create_server": f"sockets {INSTEAD}",
    "socket.create_connection": f"sockets {INSTEAD}",
    "socket.socketpair": f"sockets {INSTEAD}",
    "socket.fromfd": f"sockets {INSTEAD}",
    "socket.getaddrinfo": f"sockets {INSTEAD}",
    "socket.gethostbyname": f"sockets {INSTEAD}",
    "asyncio.to_thread": "async code; blocking libraries stay in one driver",
    "asyncio.create_task": "a TaskGroup",
    "asyncio.ensure_future": "a TaskGroup",
    "datetime.now": "world.clock.now",
    "datetime.utcnow": "world.clock.now",
    "datetime.today": "world.clock.now",
    "datetime.datetime.now": "world.clock.now",
    "datetime.datetime.utcnow": "world.clock.now",
    "date.today": "world.clock.now",
    "print": "the log, or the command line's output",
}

# Methods of paths, whatever the path is called.
_OF_PATHS = "read_text read_bytes write_text write_bytes unlink mkdir touch iterdir rglob rmdir"
METHODS: Mapping[str, str] = {name: f"files {INSTEAD}" for name in re.findall(r"\w+", _OF_PATHS)}  # noqa: C420

HIDDEN_HOMES = {"utils", "util", "common", "base", "helpers", "helper", "misc", "shared", "tools", "lib"}


class Allowed(NamedTuple):
    """`where` is a folder (ends in "/") or a file; `what` are keys of the tables above."""

    where: str
    what: frozenset[str]
    why: str


def allow(where: str, what: str, why: str) -> Allowed:
    return Allowed(where, frozenset(what.split()), why)


EVERYTHING = " ".join([*MODULES, *CALLS, *METHODS])

ALLOWED: tuple[Allowed, ...] = (
    allow("alto/kit/", EVERYTHING, "kit is where the World is made"),
    allow("alto/ui/", EVERYTHING, "a person's own process: it never runs under the simulator"),
    allow("alto/guest/", EVERYTHING, "runs inside an instance, on the standard library alone"),
    allow("alto/daemons/", "socket.socket", "daemons construct the World and the servers"),
    allow("alto/daemons/edge.py", "print", "a process of its own: its first line tells its parent that it is ready"),
    allow("alto/store/sqlite.py", "threading asyncio.to_thread", "SQLite blocks: one thread is its one writer"),
    allow("alto/drivers/network/nft.py", "threading asyncio.to_thread", "libnftables blocks, and holds one context"),
    allow(
        "alto/drivers/network/conntrack.py",
        "socket.socket asyncio.to_thread",
        "netlink, inside the World's in_netns; it blocks",
    ),
    allow("alto/drivers/network/arp.py", "socket.socket", "a packet socket; made inside the World's in_netns"),
    allow("alto/api/ec2/keypairs.py", "asyncio.to_thread", "an RSA key takes 100 ms of a CPU; requests must go on"),
)


class Finding(NamedTuple):
    line: int
    what: str  # a key of the tables
    instead: str


def findings(source: str) -> Iterator[Finding]:
    """Every use of what is banned."""
    tree = ast.parse(source)
    types_only = {id(node) for node in ast.walk(tree) if _is_for_types(node) for node in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in types_only:
            continue
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield from _module(node, name.name)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from _module(node, module)
                for name in names:
                    dotted = f"{module}.{name.name}"
                    if dotted in CALLS:
                        yield Finding(node.lineno, dotted, CALLS[dotted])
                    elif dotted in MODULES:
                        yield Finding(node.lineno, dotted, MODULES[dotted])
            case ast.Call(func=function):
                dotted = ast.unparse(function)
                if dotted in CALLS:
                    yield Finding(node.lineno, dotted, CALLS[dotted])
                elif isinstance(function, ast.Attribute) and function.attr in METHODS and not _is_world(dotted):
                    yield Finding(node.lineno, function.attr, METHODS[function.attr])


def _module(node: ast.stmt, name: str) -> Iterator[Finding]:
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        prefix = ".".join(parts[:end])
        if prefix in MODULES:
            yield Finding(node.lineno, prefix, MODULES[prefix])


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _is_world(dotted: str) -> bool:
    return ".files." in dotted or dotted.startswith("files.")


SKIPPED = {".git", ".venv", "build", "dist", "node_modules"}


@cache
def files() -> list[str]:
    """Paths in the repository that git knows or would take; without a git, all that are there."""
    if shutil.which("git") is not None:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if listed.returncode == 0:
            return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    found = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return [str(path) for path in found if not (set(path.parts) & SKIPPED) and "__pycache__" not in path.parts]


@cache
def sources() -> dict[str, str]:
    """Path in the repository -> text, of every Python file of the product and its tests."""
    return {name: (ROOT / name).read_text() for name in files() if name.endswith(".py")}


def product() -> dict[str, str]:
    return {name: text for name, text in sources().items() if name.startswith("alto/")}


def lines(complaints: list[str]) -> str:
    """One a line: pytest shortens lists."""
    return "\n" + "\n".join(complaints)


def allowed(name: str, what: str) -> bool:
    return any(what in rule.what and name.startswith(rule.where) for rule in ALLOWED)


def test_time_chance_files_processes_and_sockets_come_through_the_world() -> None:
    complaints = [
        f"{name}:{finding.line}: {finding.what}; instead: {finding.instead}"
        for name, text in product().items()
        for finding in findings(text)
        if not allowed(name, finding.what)
    ]
    assert not complaints, lines(complaints)


def test_every_exception_is_needed() -> None:
    """An exception that nobody uses any more hides the next mistake."""
    used = {
        (rule, finding.what)
        for name, text in product().items()
        for finding in findings(text)
        for rule in ALLOWED
        if name.startswith(rule.where) and finding.what in rule.what
    }
    unused = [
        f"{rule.where}: {what}"
        for rule in ALLOWED
        if rule.what != frozenset(EVERYTHING.split())
        for what in sorted(rule.what)
        if (rule, what) not in used
    ]
    assert not unused, lines(unused)


PLANTED = [
    *[(f"import {module}", module) for module in MODULES],
    *[(f"from {module} import something", module) for module in MODULES],
    *[(f"def f():\n    return {call}(1)", call) for call in CALLS],
    *[(f"def f(path):\n    return path.{method}()", method) for method in METHODS],
    ("def f():\n    import time", "time"),
    ("from asyncio import sleep", "asyncio.sleep"),
    ("from os import urandom", "os.urandom"),
    ("import urllib.request", "urllib.request"),
    ("from urllib import request", "urllib.request"),
    ("import concurrent.futures", "concurrent"),
]


@pytest.mark.parametrize(("source", "what"), PLANTED)
def test_each_ban_catches_a_planted_example(source: str, what: str) -> None:
    assert what in [finding.what for finding in findings(source)]


@pytest.mark.parametrize(
    "source",
    [
        "async def f(world):\n    await world.clock.sleep(1)",
        "def f(self, path):\n    return self._world.files.read(path)",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket",
        "async def f(tasks):\n    tasks.create_task(g())",
        "from datetime import datetime\nx = datetime.fromtimestamp(0)",
    ],
)
def test_what_is_right_is_left_alone(source: str) -> None:
    assert list(findings(source)) == []


def headless(source: str) -> bool:
    return not (ast.get_docstring(ast.parse(source)) or "").strip()


def test_every_module_says_what_is_here() -> None:
    found = [name for name, text in product().items() if headless(text)]
    assert not found, lines(found)


def unnumbered(source: str) -> list[int]:
    """Lines with a confession that names no issue."""
    return [
        number
        for number, line in enumerate(source.splitlines(), 1)
        if re.search(rf"\b({CONFESSION}|FIX{'ME'}|XX{'X'})\b", line) and not re.search(r"#\d+", line.split(CONFESSION)[-1])
    ]


def test_what_is_left_to_do_has_an_issue() -> None:
    assert {name: lines for name, text in sources().items() if (lines := unnumbered(text))} == {}


def hidden_home(name: str) -> bool:
    return any(part.removesuffix(".py").strip("_") in HIDDEN_HOMES for part in Path(name).parts)


def test_no_room_is_called_after_nothing() -> None:
    found = [name for name in sources() if hidden_home(name)]
    assert not found, lines(found)


def modules_named(source: str, package: str) -> set[str]:
    """Every module of ours that `source` names: by import, or in a string (`-m alto.x`, a table of lazy commands)."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                named |= {name.name for name in names}
            case ast.ImportFrom(module=module, names=names, level=level):
                base = ".".join(package.split(".")[: len(package.split(".")) - level + 1]) if level else ""
                full = ".".join(part for part in (base, module) if part)
                named |= {full} | {f"{full}.{name.name}" for name in names}
            case ast.Constant(value=str(text)) if len(text) < 200:
                named |= set(re.findall(r"\balto(?:\.\w+)+", text))
    return named


def dead(texts: Mapping[str, str], entries: frozenset[str]) -> list[str]:
    """Modules of the product that no other module of the product names, and that are no entry."""
    named: set[str] = set(entries)
    for name, text in texts.items():
        package = ".".join(Path(name).parent.parts)
        own = ".".join(Path(name).with_suffix("").parts)
        named |= modules_named(text, package) - {own}
    return [
        name for name in texts if not name.endswith("__init__.py") and ".".join(Path(name).with_suffix("").parts) not in named
    ]


# Called from outside Python's imports.
ENTRIES = frozenset(
    {
        "alto.ui.cli.main",  # the console script
        "alto.daemons.allinone",  # python -m
        "alto.daemons.agent",  # python -m
    }
)


def test_no_file_is_dead() -> None:
    from alto.ui.cli.main import COMMANDS

    lazy = frozenset(f"alto.ui.cli.{module}" for module, _, _ in COMMANDS.values())
    found = dead(product(), ENTRIES | lazy)
    assert not found, lines(found)


def test_the_small_rules_catch_planted_examples() -> None:
    assert headless("import os\n")
    assert not headless('"""What is here."""\n')
    assert unnumbered(f"x = 1  # {CONFESSION} later\ny = 2  # {CONFESSION} #12 this too") == [1]
    assert hidden_home("alto/kit/utils.py")
    assert hidden_home("alto/common/records.py")
    assert not hidden_home("alto/model/records.py")
    texts = {
        "alto/kit/used.py": "",
        "alto/kit/unused.py": "import alto.kit.unused",
        "alto/kit/called.py": "",
        "alto/kit/neighbour.py": "from . import used\nCOMMAND = 'python -m alto.kit.called'",
    }
    assert dead(texts, frozenset({"alto.kit.neighbour"})) == ["alto/kit/unused.py"]


def test_the_locks_have_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"]
    wanted = {
        "requirements.lock": runtime,
        "requirements-dev.lock": [*runtime, *project["dependency-groups"]["dev"]],
    }
    for lock, requirements in wanted.items():
        pinned = {_normal(name) for name in re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)}
        names = {_normal(re.split(r"[\s<>=~!\[;]", requirement)[0]) for requirement in requirements}
        assert names <= pinned, f"packaging/relock writes {lock} anew"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_nothing_names_the_machine_it_was_written_on() -> None:
    paths = re.compile(b"|".join([b"/wo" + b"rk/", b"/tm" + b"p/w/"]))
    guilty = [name for name in files() if paths.search((ROOT / name).read_bytes())]
    assert not guilty, lines(guilty)


def test_doctor_asks_for_what_the_scripts_install() -> None:
    """Else a stranger's first try ends there."""
    from alto.ui.cli.doctor import PROGRAMS

    listed = (ROOT / "packaging" / "apt.txt").read_text().partition("\n[test]\n")[0].splitlines()
    essential = {"util-linux"}  # on every Debian
    assert set(PROGRAMS.values()) <= set(listed) | essential
