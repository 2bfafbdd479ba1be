"""Which cloud the commands talk to: from `--state`, from the environment, or from the state folder of this machine's.

`cloud.json` in the state folder is written by the daemon (0600) when it is ready. The invariant: keys from the environment
go only to an endpoint from the environment (ALTO_ENDPOINT), so a person's real AWS keys never sign for a cloud here, nor
this cloud's for Amazon.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from alto.ui.cli.failures import Exit, Failure

DEFAULT_REGION = "us-east-1"


class Cloud(NamedTuple):
    """`state` is None when the cloud was named by ALTO_ENDPOINT; `pid` 0 when unknown."""

    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str
    account: str = ""
    cloud_id: str = ""
    pid: int = 0
    hosts_door: str | None = None
    master_key: str | None = None
    state: Path | None = None


def default_state(environ: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/alto")
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME", "/")) / ".local" / "state")
    return Path(base) / "alto"


def state_folder(option: str | None, environ: Mapping[str, str]) -> Path:
    chosen = option or environ.get("ALTO_STATE")
    return Path(chosen).absolute() if chosen else default_state(environ)


def find_cloud(option: str | None, environ: Mapping[str, str]) -> Cloud:
    """Raises: Failure (unreachable) when there is none."""
    endpoint = environ.get("ALTO_ENDPOINT")
    if endpoint and not option:
        missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not environ.get(name)]
        if missing:
            raise Failure(
                f"ALTO_ENDPOINT is set, and {' and '.join(missing)} not",
                why="an endpoint from the environment is only ever used with keys from the environment",
                hint='eval "$(alto env)"    or    unset ALTO_ENDPOINT',
                exit=Exit.USAGE,
            )
        return Cloud(
            endpoint=endpoint,
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
            access_key_id=environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
        )
    state = state_folder(option, environ)
    cloud = read_cloud(state)
    if cloud is None:
        raise Failure(
            "no cloud here",
            why=f"there is no {state / 'cloud.json'}, and ALTO_ENDPOINT is not set",
            hint="alto up    or    alto --state FOLDER ...",
            exit=Exit.UNREACHABLE,
        )
    return cloud


def read_cloud(state: Path) -> Cloud | None:
    """What `cloud.json` says, or None when there is none. Raises: Failure when it can not be read."""
    path = state / "cloud.json"
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise Failure(
            f"{path} is not yours to read",
            why="it holds the operator's keys, so only who started the cloud may",
            hint="sudo alto ...    or ask for an account: alto account create",
            exit=Exit.DENIED,
        ) from None
    except ValueError:
        raise Failure(f"{path} is not JSON", why="it was not written by alto", hint=f"alto up --state {state}") from None
    known = {name: data[name] for name in Cloud._fields if name in data and name != "state"}
    return Cloud(**{"region": DEFAULT_REGION, **known}, state=state)
