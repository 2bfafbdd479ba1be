"""The command against a real control plane over simulated hosts: what a person and a program see from up to down.

Goal: every command that needs no machine of flesh does what it says, in each form of output, and says `simulated` wherever
a host shows. Method: one `alto up --simulate` for this file, in a folder of its own, each command in its own process.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml

from tests.terminal import Terminal

ROOT = Path(__file__).parents[2]


class Shell:
    """Runs `alto` as a shell would: stdout is a pipe, stderr too."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, *arguments: str, code: int = 0) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ALTO_"))}
        done = subprocess.run(
            [sys.executable, "-m", "alto.ui.cli.main", *arguments],
            capture_output=True,
            text=True,
            env={**clean, "PYTHONPATH": str(ROOT), "ALTO_STATE": str(self.state)},
            timeout=100,
        )
        self.said = done.stderr
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def terminal(self, *arguments: str) -> Terminal:
        return Terminal([sys.executable, "-m", "alto.ui.cli.main", "--state", str(self.state), *arguments])

    def rows(self, *arguments: str) -> list[dict[str, str]]:
        """A listing through a pipe: tab-separated, with a header."""
        header, *lines = [line.split("\t") for line in self(*arguments).splitlines()]
        assert all(len(line) == len(header) for line in lines)
        return [dict(zip(header, line, strict=True)) for line in lines]


@pytest.fixture(scope="module")
def alto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("cloud"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shell("up", "--simulate", "2", "--listen", f"127.0.0.1:{port}")
    try:
        yield shell
    finally:
        shell("down", "--yes")


def test_up_is_idempotent(alto: Shell) -> None:
    before = json.loads((alto.state / "cloud.json").read_text())["pid"]
    alto("up", "--simulate", "2")
    assert "already up" in alto.said
    assert json.loads((alto.state / "cloud.json").read_text())["pid"] == before


def test_the_keys_are_for_the_owner_only(alto: Shell) -> None:
    assert (alto.state / "cloud.json").stat().st_mode & 0o077 == 0


def test_hosts_say_that_they_are_simulated(alto: Shell) -> None:
    assert [row["KIND"] for row in alto.rows("host", "list")] == ["simulated", "simulated"]
    assert {row["KIND"] for row in alto.rows("status") if row["WHAT"] == "host"} == {"simulated"}


def test_hosts_say_for_whom_they_are_kept(alto: Shell) -> None:
    assert {row["KEPT-FOR"] for row in alto.rows("host", "list")} == {""}
    told = dict(line.split("=", 1) for line in alto("env", "--dotenv").splitlines())
    ec2 = boto3.client(
        "ec2",
        endpoint_url=told["AWS_ENDPOINT_URL"],
        region_name=told["AWS_REGION"],
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )
    image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["alto/tiny*"]}])["Images"][0]["ImageId"]
    made = ec2.run_instances(ImageId=image, InstanceType="m1.tiny", MinCount=1, MaxCount=1, Placement={"Tenancy": "dedicated"})
    id = made["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 1})
    assert sorted(row["KEPT-FOR"] for row in alto.rows("host", "list")) == ["", made["OwnerId"]]
    alto("instance", "terminate", "--yes", "--wait", id)


def test_a_new_account_sees_nothing_of_others(alto: Shell) -> None:
    keys = dict(line.split("=", 1) for line in alto("account", "create").splitlines())
    made = json.loads(alto("account", "create", "another", "-o", "json"))
    assert made["access_key_id"] != keys["AWS_ACCESS_KEY_ID"]
    rows = alto.rows("account", "list")
    assert {"ACCOUNT": made["account"], "NAME": "another", "ROLE": "tenant"} in rows
    assert keys["AWS_ACCOUNT_ID"] in [row["ACCOUNT"] for row in rows]
    alto("account", "create", "another", code=5)
    assert "already exists" in alto.said


def test_an_instance_from_run_to_terminate(alto: Shell) -> None:
    id = alto("instance", "run", "--name", "box", "--key", "mine", "--tag", "team=red", "--wait", "-q").strip()
    assert id.startswith("i-")
    key = alto.state / "keys" / "mine.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().startswith("-----BEGIN")

    (row,) = [row for row in alto.rows("instance", "list") if row["NAME"] == "box"]
    assert (row["INSTANCE"], row["STATE"], row["KIND"], row["TYPE"]) == (id, "running", "simulated", "m1.tiny")
    (data,) = json.loads(alto("instance", "list", "-o", "json"))
    assert (data["InstanceId"], data["Kind"]) == (id, "simulated")
    assert yaml.safe_load(alto("instance", "list", "-o", "yaml")) == [data]
    assert alto("instance", "list", "-o", "name") == f"{id}\n"
    shown = {row["FIELD"]: row["VALUE"] for row in alto.rows("instance", "show", "box")}
    assert (shown["id"], shown["kind"], shown["key"]) == (id, "simulated", "mine")

    alto("instance", "stop", "box", "--wait")
    assert [row["STATE"] for row in alto.rows("instance", "list")] == ["stopped"]
    alto("instance", "start", id, "--wait")
    alto("instance", "reboot", id)
    alto("instance", "terminate", "box", "--wait")
    assert f"takes away: {id} box" in alto.said
    assert alto.rows("instance", "list") == []
    assert id in [row["INSTANCE"] for row in alto.rows("instance", "list", "--all")]
    alto("instance", "show", "box", code=3)
    alto("instance", "show", "i-00000000000000000", code=3)
    alto("instance", "run", "--type", "m1.tinny", code=1)
    assert "m1.tiny" in alto.said


def test_a_trace_names_the_rules_and_tells_scripts_by_its_exit_code(alto: Shell) -> None:
    for name in ("here", "there"):
        alto("instance", "run", "--name", name, "--wait", "-q")
    rows = alto.rows("net", "trace", "here", "there:443")
    # Both are in one subnet, so no ACL is asked.
    assert [row["WHAT"] for row in rows if row["WAY"] == "there"] == ["security-group", "route-table", "security-group"]
    assert {row["VERDICT"] for row in rows} == {"pass"}
    assert "simulated" in alto.said
    told = json.loads(alto("net", "trace", "internet", "there:443", "-o", "json", code=1))
    assert (told["arrives"], told["there"][-1]["rule"]) == (False, "default")
    alto("net", "trace", "here", "there:https", code=2)
    alto("net", "trace", "here", "nobody:443", code=3)
    alto("instance", "terminate", "here", "there", "--yes", "--wait")


def test_a_service_follows_its_wish(alto: Shell) -> None:
    alto("service", "create", "web", "-n", "2", "--wait")
    members = alto.rows("service", "show", "web")
    assert [(row["HEALTH"], row["KIND"]) for row in members] == [("healthy", "simulated")] * 2
    alto("service", "scale", "web", "3", "--wait")
    assert len(alto.rows("service", "show", "web")) == 3
    (row,) = alto.rows("service", "list")
    assert (row["NAME"], row["STATE"], row["HEALTHY"]) == ("web", "ready", "3/3")
    assert row["BALANCER"] in {f"host {host['NAME']}" for host in alto.rows("host", "list")}
    alto("service", "create", "web", code=5)
    alto("audit")
    alto("service", "delete", "web", "--wait")
    assert "its 3 instances" in alto.said
    assert alto.rows("service", "list") == []
    alto("service", "show", "web", code=3)


def test_a_balancer_that_is_an_instance_is_named_wherever_its_service_is(alto: Shell) -> None:
    alto("service", "create", "front", "-n", "1", "--balancer", "instance", "--wait")
    front = json.loads(alto("service", "show", "front", "-o", "json"))["balancer"]["instance_id"]
    (row,) = alto.rows("service", "list")
    assert (row["STATE"], row["BALANCER"]) == ("ready", f"instance {front}")
    alto("service", "delete", "front", "--wait")
    assert f"its 1 instances, its balancer {front} and" in alto.said
    alto("service", "create", "large", "-n", "0", "--balancer", "instance", "--balancer-type", "u7in-32tb.224xlarge")
    alto("service", "show", "large")
    assert "its balancer does not serve: it" in alto.said
    alto("service", "delete", "large", "--wait")


def test_doctor_sees_the_cloud(alto: Shell) -> None:
    checks = {one["check"]: one["verdict"] for one in json.loads(alto_doctor(alto))}
    assert checks["control plane"] == "ok"
    assert checks["records"] == "ok"
    assert checks["port"] == "ok"


def alto_doctor(alto: Shell) -> str:
    """Exit code 0 or 1, by what this machine has."""
    try:
        return alto("doctor", "-o", "json")
    except AssertionError:
        return alto("doctor", "-o", "json", code=1)


def test_waiting_in_vain_is_exit_code_6(alto: Shell) -> None:
    alto("service", "create", "slow", "-n", "1", "--wait", "--timeout", "0", code=6)
    assert "not within 0 s" in alto.said
    alto("service", "delete", "slow", "--wait")


def test_down_also_ends_a_cloud_that_is_not_ready_yet(tmp_path: Path) -> None:
    """The first start builds an image, and who is tired of waiting must not be left with a server without a state."""
    shell = Shell(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shell("up", "--simulate", "1", "--listen", f"127.0.0.1:{port}")
    ready = shell.state / "cloud.json"
    pid = json.loads(ready.read_text())["pid"]
    ready.unlink()  # as it is until the moment when it is ready
    shell("down", "--yes")
    status = Path(f"/proc/{pid}/status")
    assert not status.exists() or "zombie" in status.read_text(), "nobody here reaps it"
    assert list(shell.state.iterdir()) == []


def test_a_template_is_made_from_an_instance_and_launched(alto: Shell) -> None:
    (first,) = alto.rows("instance", "run", "--type", "t3.nano", "--tag", "team=red", "--wait")
    assert [row["NAME"] for row in alto.rows("template", "create", "web", "--from", first["INSTANCE"])] == ["web"]
    (again,) = alto.rows("template", "create", "web", "--from", first["INSTANCE"], "--description", "second")
    assert (again["LATEST"], again["DEFAULT"]) == ("2", "1")
    alto("template", "default", "web", "2")
    assert [row["DEFAULT"] for row in alto.rows("template", "list")] == ["2"]
    fields = {row["FIELD"]: row["VALUE"] for row in alto.rows("template", "show", "web")}
    assert (fields["InstanceType"], fields["description"]) == ("t3.nano", "second")
    (made,) = alto.rows("instance", "run", "--template", "web:1", "--wait")
    shown = {row["FIELD"]: row["VALUE"] for row in alto.rows("instance", "show", made["INSTANCE"])}
    assert shown["type"] == "t3.nano"
    alto("instance", "run", "--template", "nothing", code=3)
    alto("template", "delete", "web")
    assert alto.rows("template", "list") == []
    alto("instance", "terminate", "--yes", "--wait", first["INSTANCE"], made["INSTANCE"])


def test_instances_stand_where_they_are_asked_to(alto: Shell) -> None:
    hosts = alto.rows("host", "list")
    assert [row["STRATEGY"] for row in alto.rows("placement", "create", "apart")] == ["spread"]
    placed = alto.rows("instance", "run", "-n", "2", "--placement", "apart", "--wait")

    def host_of(id: str) -> str:
        return {row["FIELD"]: row["VALUE"] for row in alto.rows("instance", "show", id)}["host"]

    assert len({host_of(row["INSTANCE"]) for row in placed}) == 2
    alto("instance", "run", "--placement", "apart", code=5)
    (there,) = alto.rows("instance", "run", "--host", hosts[1]["NAME"], "--profile", "web", "--wait")
    shown = {row["FIELD"]: row["VALUE"] for row in alto.rows("instance", "show", there["INSTANCE"])}
    assert shown["host"] == f"{hosts[1]['NAME']} ({hosts[1]['HOST']})"
    assert (shown["placement"], shown["profile"]) == (f"host {hosts[1]['HOST']}", "web")
    assert shown["checks"].startswith("system ok, instance ok")
    alto("placement", "delete", "apart", code=5)
    alto("instance", "terminate", "--yes", "--wait", there["INSTANCE"], *(row["INSTANCE"] for row in placed))
    alto("placement", "delete", "apart")
    assert alto.rows("placement", "list") == []


def test_volumes_snapshots_and_images(alto: Shell) -> None:
    (instance,) = alto.rows("instance", "run", "--wait")
    (made,) = alto.rows("volume", "create", "2")
    assert (made["GIB"], made["STATE"]) == ("2", "available")
    (attached,) = alto.rows("volume", "attach", made["VOLUME"], instance["INSTANCE"])
    assert (attached["STATE"], attached["INSTANCE"], attached["DEVICE"]) == ("in-use", instance["INSTANCE"], "/dev/sdf")
    assert len(alto.rows("volume", "list")) == 2
    (copy,) = alto.rows("snapshot", "create", made["VOLUME"], "--description", "of today")
    assert (copy["STATE"], copy["VOLUME"], copy["DESCRIPTION"]) == ("completed", made["VOLUME"], "of today")
    (image,) = alto.rows("image", "create", instance["INSTANCE"], "mine")
    assert (image["STATE"], image["WHOSE"], image["MADE FROM"]) == ("available", "own", instance["INSTANCE"])
    assert {row["NAME"] for row in alto.rows("image", "list")} >= {"mine"}
    assert len(alto.rows("snapshot", "list")) == 3
    (detached,) = alto.rows("volume", "detach", made["VOLUME"])
    assert detached["STATE"] == "available"
    alto("volume", "create", code=2)
    alto("volume", "delete", "vol-00000000000000000", "--yes", code=3)
    (again,) = alto.rows("volume", "create", "--snapshot", copy["SNAPSHOT"])
    assert (again["GIB"], again["SNAPSHOT"]) == ("2", copy["SNAPSHOT"])
    alto("image", "delete", image["IMAGE"], "--yes")
    alto("snapshot", "delete", copy["SNAPSHOT"], "--yes")
    for row in (made, again):
        alto("volume", "delete", row["VOLUME"], "--yes")
    alto("instance", "terminate", "--yes", "--wait", instance["INSTANCE"])
    assert alto.rows("snapshot", "list") == alto.rows("volume", "list") == []


def test_user_data_is_looked_at_before_the_launch(alto: Shell) -> None:
    script = alto.state / "script"
    script.write_text("apt-get install nginx\n")
    (made,) = alto.rows("instance", "run", "--user-data", str(script))
    assert "the first line of the user data is 'apt-get install nginx'" in alto.said
    shown = {row["FIELD"]: row["VALUE"] for row in alto.rows("instance", "show", made["INSTANCE"])}
    assert shown["user data"] == "not reported", "no guest runs here, and none is made up"
    (silent,) = alto.rows("instance", "run", "--user-data", str(script), "--no-check")
    assert "warning" not in alto.said
    script.write_bytes(b"#!/bin/sh\n" + b"#" * 16384)
    alto("instance", "run", "--user-data", str(script), code=2)
    alto("instance", "terminate", "--yes", "--wait", made["INSTANCE"], silent["INSTANCE"])


def test_a_live_console_is_typed_at_and_left(alto: Shell) -> None:
    """Goal: the switch, one holder, keys there and words here, the escape key, the end of the machine. Method: the command in
    a terminal of its own; a simulated line gives back what is typed."""
    id = alto("instance", "run", "--name", "sit", "--wait", "-q").strip()
    alto("instance", "console", "sit", "-i", code=2)
    with alto.terminal("instance", "console", "sit", "-i") as refused:
        refused.ends(4)
        assert "alto account serial-console on" in refused.said
    assert alto("account", "serial-console", "-q").strip() == "off"
    assert alto("account", "serial-console", "on", "-q").strip() == "on"
    with alto.terminal("instance", "console", "sit", "-i") as mine:
        mine.reads(f"serial console of {id}. Escape character is Ctrl-]")
        mine.types("whoami\r")
        mine.reads("whoami\n")
        with alto.terminal("instance", "console", id, "-i") as second:
            second.ends(5)
            assert "--take" in second.said
        # Ctrl-C is the guest's.
        mine.types("\x03now")
        mine.reads("\x03now")
        mine.types("\x1d")
        mine.reads("the instance runs on")
        mine.ends(0)
    with alto.terminal("instance", "console", "sit", "-i") as last:
        last.reads("Escape character")
        alto("instance", "terminate", "sit", "--yes", "--wait")
        last.reads("The console has ended")
        last.ends(0)
    alto("account", "serial-console", "off")
    assert "no guest runs here" not in mine.said  # of the live one: only what came since
