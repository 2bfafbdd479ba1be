"""A cloud under test: started as users start it, used through its wire, in a network namespace of this test process.

Everything that is started is ended by `down`, and `leftovers` compares the machine before and after.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).parents[2]
PROGRAM = ("alto.daemons.allinone",)


class Cloud:
    def __init__(
        self,
        state: Path,
        *,
        port: int,
        pool: str,
        simulate: int = 0,
        hosts: str = "",
        cache: Path | None = None,
        program: Sequence[str] = PROGRAM,
        nat: bool = False,
    ) -> None:
        self.state = state
        self._program = program
        self.pool = pool
        self._arguments = ["--state", str(state), "--pool", pool, *([] if nat else ["--no-nat"])]
        if cache is not None:
            self._arguments += ["--cache", str(cache)]
        self._up = ["--listen", f"127.0.0.1:{port}", *(["--simulate", str(simulate)] if simulate else [])]
        self._up += ["--hosts", hosts] if hosts else []
        self._process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        self.state.mkdir(mode=0o711, exist_ok=True)
        (self.state / "cloud.json").unlink(missing_ok=True)
        with open(self.state / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._program, *self._arguments, *self._up],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until((self.state / "cloud.json").exists, "the cloud is ready", timeout_s=240, alive=self.check_alive)

    def check_alive(self) -> None:
        assert self._process is None or self._process.poll() is None, self.log()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """As by `kill -9`: nothing is told, nothing is written."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def down(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=30)
        done = subprocess.run(
            [sys.executable, "-m", *PROGRAM, *self._arguments, "--down"],
            cwd=ROOT,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    def log(self) -> str:
        return (self.state / "server.log").read_text()[-20_000:]

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.state / "cloud.json").read_bytes())
        return facts

    def environment(self) -> dict[str, str]:
        """What `alto env` exports."""
        facts = self.facts
        return {
            "AWS_ENDPOINT_URL": facts["endpoint"],
            "AWS_ACCESS_KEY_ID": facts["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": facts["secret_access_key"],
            "AWS_REGION": facts["region"],
            "AWS_DEFAULT_REGION": facts["region"],
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str = "ec2") -> Any:
        facts = self.facts
        return boto3.client(
            service,
            endpoint_url=facts["endpoint"],
            region_name=facts["region"],
            aws_access_key_id=facts["access_key_id"],
            aws_secret_access_key=facts["secret_access_key"],
            config=Config(retries={"max_attempts": 1}),
        )

    def alto(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """The `alto` command, as a user types it."""
        return subprocess.run(
            [sys.executable, "-m", "alto.ui.cli.main", *arguments],
            cwd=ROOT,
            env={**os.environ, "ALTO_STATE": str(self.state)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def until(
    condition: Callable[[], Any], what: str, *, timeout_s: float, alive: Callable[[], None] | None = None, every_s: float = 0.1
) -> Any:
    """Wait for a condition, not for a time; fails with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if alive is not None:
            alive()
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(every_s)


def ssh(key: Path, address: str, command: str, *, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """A conversation that falls silent half-way, as when its route goes, fails as one that never began."""
    options = ["-F", "/dev/null", "-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    words = ["ssh", *options, f"root@{address}", command]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 255, "", f"silent for {timeout_s:g} s")


def behind(key: Path, bastion: str, address: str, command: str) -> str:
    """What a guest without a public address answers, by ssh through another."""
    options = (
        f"-F /dev/null -i {key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
    )
    way = f"ssh {options} -o ConnectTimeout=10 -W %h:%p root@{bastion}"
    argv = ["ssh", *options.split(), "-o", f"ProxyCommand={way}", f"root@{address}", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def machines_of(state: Path) -> dict[str, int]:
    """Instance id -> pid of each QEMU that belongs to a cloud: that has a file of its state open."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            guest = next((one.removeprefix("guest=") for one in arguments if one.startswith("guest=i-")), None)
            if guest is not None and any(os.readlink(fd).startswith(f"{state}/") for fd in (entry / "fd").iterdir()):
                found[guest] = int(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_the_way(base: Path) -> None:
    """QEMU and HAProxy drop root and must still reach their files."""
    for folder in (base, *base.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)


@contextmanager
def standing(base: Path, *, beside: tuple[str, ...] = (), **options: Any) -> Iterator[Cloud]:
    """A real cloud with its files below `base`, taken down and looked for leftovers afterwards. `options`: a Cloud's; `beside`:
    how leftovers begin that are the test's own."""
    open_the_way(base)
    cloud = Cloud(base / "state", **options)
    try:
        cloud.up()
        cloud_id = cloud.facts["cloud_id"]
        yield cloud
    except BaseException:
        print(cloud.log())
        raise
    finally:
        cloud.down()
    assert [one for one in leftovers(base / "state", cloud_id) if not one.startswith(beside)] == []


def leftovers(state: Path, cloud_id: str) -> list[str]:
    """Whatever still belongs to a cloud that is down."""
    left = [f"process {id} ({pid})" for id, pid in machines_of(state).items()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(state).encode() in line and int(entry.name) != os.getpid():
                left.append("process " + line.replace(b"\0", b" ").decode(errors="replace")[:200])
    short = cloud_id.removeprefix("c-")
    left += [f"namespace {name}" for name in os.listdir("/run/netns") if short in name] if Path("/run/netns").exists() else []
    left += [f"control group {path}" for path in Path("/sys/fs/cgroup").glob(f"*/alto-{cloud_id}-*")]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    left += [f"nftables {line}" for line in tables.splitlines() if "alto" in line]
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=False).stdout
    left += [f"link {line}" for line in links.splitlines() if not line.startswith("lo ")]
    return left
