"""Amazon's command and Terraform as a user has them: unmodified, with nothing of Alto but the environment of `alto env`."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cloud import Cloud

CONFIGURATIONS = Path(__file__).parent / "terraform"


def run(cloud: Cloud, *argv: str, cwd: Path | None = None, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """`ok`: it is a failure of the test when the command fails."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "PYENV_VERSION") if name in os.environ}
    done = subprocess.run(
        argv, env={**keep, **cloud.environment()}, cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )
    assert not ok or done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done


def _provider_folder() -> Path | None:
    """Where this machine keeps Terraform's providers, when it has Amazon's."""
    given = os.environ.get("ALTO_TERRAFORM_PLUGINS")
    places = (
        [Path(given)]
        if given
        else [*Path("/opt").glob("*"), Path("/usr/share/terraform/plugins"), Path.home() / ".terraform.d/plugins"]
    )
    return next((one for one in places if (one / "registry.terraform.io/hashicorp/aws").is_dir()), None)


needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None or _provider_folder() is None,
    reason="needs terraform and its AWS provider on disk (ALTO_TERRAFORM_PLUGINS names the folder)",
)


def terraform_of(cloud: Cloud, configuration: str, work: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`terraform` in the empty folder `work`, which has this file of terraform/, after `terraform init`."""
    shutil.copy(CONFIGURATIONS / configuration, work / "main.tf")

    def terraform(*argv: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        # What only reads or edits the state takes no such options.
        options = () if argv[0] in ("output", "state") else ("-no-color", "-input=false")
        return run(cloud, "terraform", *argv, *options, cwd=work, ok=ok)

    terraform("init", f"-plugin-dir={_provider_folder()}")
    return terraform
