"""`alto env`: what aws, boto3, Terraform and this command itself need, in the words of the shell that asks."""

from contextlib import suppress

import click

from alto.ui.cli import options
from alto.ui.cli.context import Cloud, read_cloud
from alto.ui.cli.failures import Failure

# Terraform's provider asks these services by itself.
TERRAFORM_SERVICES = ("ec2", "sts", "iam", "s3", "elbv2", "autoscaling", "cloudwatch")


def variables(cloud: Cloud) -> dict[str, str]:
    return {
        "ALTO_ENDPOINT": cloud.endpoint,
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_ACCESS_KEY_ID": cloud.access_key_id,
        "AWS_SECRET_ACCESS_KEY": cloud.secret_access_key,
        "AWS_REGION": cloud.region,
        "AWS_DEFAULT_REGION": cloud.region,
        # Else every client without a region asks 169.254.169.254 first, and waits.
        "AWS_EC2_METADATA_DISABLED": "true",
    }


# A session token or profile of somebody's real account would win over, or spoil, the keys above.
CLEARED = ("AWS_SESSION_TOKEN", "AWS_PROFILE")


@click.command(cls=options.Command)
@click.option("--unset", is_flag=True, help="Take the variables away again.")
@click.option("--shell", type=click.Choice(["sh", "bash", "zsh", "fish"]), default="sh", help="Whose words to use.")
@click.option("--dotenv", is_flag=True, help="KEY=VALUE lines.")
@click.option("--terraform", is_flag=True, help="A provider block.")
def env(unset: bool, shell: str, dotenv: bool, terraform: bool) -> None:
    """Environment for aws, boto3 and Terraform: eval "$(alto env)"."""
    if unset:
        names = [*variables(Cloud("", "", "", "")), *CLEARED]
        print("\n".join(f"set -e {name};" if shell == "fish" else f"unset {name}" for name in names))
        return
    cloud = _current()
    if terraform:
        print(_provider(cloud))
    elif dotenv:
        print("\n".join(f"{name}={value}" for name, value in variables(cloud).items()))
    elif shell == "fish":
        lines = [f"set -e {name};" for name in CLEARED]
        print("\n".join(lines + [f"set -gx {name} {_quoted(value)};" for name, value in variables(cloud).items()]))
    else:
        lines = [f"unset {' '.join(CLEARED)}"]
        print("\n".join(lines + [f"export {name}={_quoted(value)}" for name, value in variables(cloud).items()]))


def _current() -> Cloud:
    """A shell that was set up once stays so when the cloud goes down and another comes up at the same endpoint."""
    cloud = options.cloud()
    with suppress(Failure):
        own = read_cloud(options.state())
        if own is not None and own.endpoint == cloud.endpoint:
            return own
    return cloud


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "'\\''") + "'" if not value.isalnum() else value


def _provider(cloud: Cloud) -> str:
    endpoints = "\n".join(f'    {name} = "{cloud.endpoint}"' for name in TERRAFORM_SERVICES)
    return f"""provider "aws" {{
  region                      = "{cloud.region}"
  access_key                  = "{cloud.access_key_id}"
  secret_key                  = "{cloud.secret_access_key}"
  skip_metadata_api_check     = true
  skip_region_validation      = true
  s3_use_path_style           = true
  endpoints {{
{endpoints}
  }}
}}"""
