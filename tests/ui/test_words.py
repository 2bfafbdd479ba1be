"""What a person gets for a wrong word: the exit code, three lines, and the word that was meant.

Goal: each mistake has its own exit code (docs: `alto --help`), says what, why and what next, and stdout stays empty.
Method: the real command in a process of its own, in an empty state folder, as a shell would run it.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from alto.ui.cli.answers import TraceAnswer, TraceEnd, TraceStep
from alto.ui.cli.failures import Exit, exit_for
from alto.ui.cli.net import tree

ROOT = Path(__file__).parents[2]


def alto(*arguments: str, state: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ALTO_"))}
    return subprocess.run(
        [sys.executable, "-m", "alto.ui.cli.main", *arguments],
        capture_output=True,
        text=True,
        env={**clean, "PYTHONPATH": str(ROOT), "ALTO_STATE": str(state), **environ},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["instnce", "list"], 2, "Did you mean 'instance'?"),
        (["instance", "lst"], 2, "Did you mean 'list'?"),
        (["instance", "list", "--al"], 2, "--all"),
        # The seeds print an option with an en dash (requirement L9).
        (["instance", "list", "\u2013wait"], 2, "did you mean --wait?"),
        (["\u2014state", "x"], 2, "did you mean --state?"),
        (["status"], 7, "alto up"),
        (["instance", "list"], 7, "no cloud here"),
        (["service", "scale", "web", "many"], 2, "integer"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = alto(*arguments, state=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) <= 3


def test_an_endpoint_of_the_environment_needs_keys_of_the_environment(tmp_path: Path) -> None:
    """Else the keys of this machine's cloud would sign for a stranger's endpoint."""
    write_cloud(tmp_path, "http://127.0.0.1:9")
    done = alto("status", state=tmp_path, ALTO_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_a_cloud_that_does_not_answer(tmp_path: Path) -> None:
    write_cloud(tmp_path, "http://127.0.0.1:9")
    done = alto("status", state=tmp_path)
    assert done.returncode == 7
    assert "127.0.0.1:9" in done.stderr
    assert "alto doctor" in done.stderr


def test_env_speaks_the_shell_that_asks(tmp_path: Path) -> None:
    write_cloud(tmp_path, "http://127.0.0.1:8773")
    wanted = {
        "ALTO_ENDPOINT": "http://127.0.0.1:8773",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:8773",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "se'cret/+",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    script = alto("env", state=tmp_path).stdout
    seen = subprocess.run(["sh", "-c", script + "\nenv -0"], capture_output=True, text=True, env={"AWS_PROFILE": "work"})
    values = dict(line.split("=", 1) for line in seen.stdout.split("\0") if "=" in line)
    assert {name: values.get(name) for name in wanted} == wanted
    assert "AWS_PROFILE" not in values

    # A shell that was set up for the cloud before this one, at the same place.
    stale = {"ALTO_ENDPOINT": "http://127.0.0.1:8773", "AWS_ACCESS_KEY_ID": "AKIAOLD", "AWS_SECRET_ACCESS_KEY": "old"}
    assert alto("env", state=tmp_path, **stale).stdout == script
    elsewhere = stale | {"ALTO_ENDPOINT": "http://127.0.0.1:9"}
    assert "AKIAOLD" in alto("env", state=tmp_path, **elsewhere).stdout

    undo = alto("env", "--unset", state=tmp_path).stdout
    seen = subprocess.run(["sh", "-c", script + "\n" + undo + "\nenv -0"], capture_output=True, text=True, env={})
    assert not [line for line in seen.stdout.split("\0") if line.startswith(("AWS_", "ALTO_"))]

    dotenv = dict(line.split("=", 1) for line in alto("env", "--dotenv", state=tmp_path).stdout.splitlines())
    assert dotenv == wanted
    assert "set -gx AWS_REGION" in alto("env", "--shell", "fish", state=tmp_path).stdout
    assert 'ec2 = "http://127.0.0.1:8773"' in alto("env", "--terraform", state=tmp_path).stdout


@pytest.mark.parametrize(
    ("code", "status", "exit"),
    [
        ("InvalidInstanceID.NotFound", 400, Exit.NOT_FOUND),
        ("AuthFailure", 401, Exit.DENIED),
        ("SignatureDoesNotMatch", 403, Exit.DENIED),
        ("InsufficientInstanceCapacity", 500, Exit.CONFLICT),
        ("InstanceLimitExceeded", 400, Exit.CONFLICT),
        ("InvalidKeyPair.Duplicate", 400, Exit.CONFLICT),
        ("IncorrectInstanceState", 400, Exit.CONFLICT),
        ("InvalidParameterValue", 400, Exit.FAILED),
    ],
)
def test_exit_codes_tell_apart_what_programs_must(code: str, status: int, exit: Exit) -> None:
    assert exit_for(code, status) is exit


@pytest.mark.parametrize("arguments", [["--version"], ["account", "create"], ["instance", "list", "-q"]])
def test_a_command_loads_only_what_it_needs(tmp_path: Path, arguments: list[str]) -> None:
    """`alto account create` has to take well under 100 ms: none of the heavy libraries may be loaded for it."""
    write_cloud(tmp_path, "http://127.0.0.1:9")
    heavy = ("rich", "yaml", "asyncio", "botocore", "structlog", "cryptography", "importlib.metadata")
    program = (
        "import sys\nfrom alto.ui.cli.main import run\n"
        f"run({arguments!r})\n"
        f"print('loaded:', *[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ALTO_STATE": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == "loaded:"


def write_cloud(state: Path, endpoint: str) -> None:
    path = state / "cloud.json"
    cloud = {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "AKIAEXAMPLE",
        "secret_access_key": "se'cret/+",
        "account": "123456789012",
        "cloud_id": "c-1",
        "pid": 0,
    }
    path.write_text(json.dumps(cloud))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_a_trace_is_a_tree_with_the_rule_that_stops_it() -> None:
    end = {"interface_id": "eni-1", "instance_id": "i-1"}
    steps = [
        TraceStep(what="security-group", id="sg-1", rule="sgr-1", passes=True, sentence="allowed"),
        TraceStep(what="network-acl", id="acl-1", rule="20", passes=False, sentence="entry 20 denies"),
    ]
    told = TraceAnswer(
        source=TraceEnd(name="app", address="10.0.0.5", **end),
        destination=TraceEnd(name="internet", address="198.51.100.1"),
        traffic="tcp 443",
        arrives=False,
        answered=None,
        verdict="does not arrive: entry 20 denies",
        simulated=False,
        there=steps,
        back=[],
    )
    assert tree(told, coloured=False) == [
        "app (i-1, eni-1, 10.0.0.5) -> internet (198.51.100.1), tcp 443: does not arrive: entry 20 denies",
        "there",
        "├─ pass security-group sg-1 sgr-1: allowed",
        "└─ STOP network-acl acl-1 20: entry 20 denies",
    ]
    assert "\x1b[31mSTOP\x1b[0m" in tree(told, coloured=True)[-1]
