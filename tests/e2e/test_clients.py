"""Amazon's own clients, unmodified, against simulated hosts. Goal: the environment of `alto env` is all they need.
Method: boto3's waiters, the aws command, and Terraform with the AWS provider where they are on the machine."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.cloud import Cloud
from tests.e2e.commands import needs_terraform, run, terraform_of

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

IMAGE = "ami-0a170000000000001"


def test_boto3_waiters_follow_an_instance_through_its_life(simulated: Cloud) -> None:
    ec2 = simulated.client()
    ids = [ec2.run_instances(ImageId=IMAGE, InstanceType="t3.nano", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]]
    quick = {"Delay": 1, "MaxAttempts": 30}
    ec2.get_waiter("instance_exists").wait(InstanceIds=ids, WaiterConfig=quick)
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=quick)
    ec2.get_waiter("instance_status_ok").wait(InstanceIds=ids, WaiterConfig=quick)
    ec2.get_waiter("system_status_ok").wait(InstanceIds=ids, WaiterConfig=quick)
    ec2.stop_instances(InstanceIds=ids)
    ec2.get_waiter("instance_stopped").wait(InstanceIds=ids, WaiterConfig=quick)
    ec2.start_instances(InstanceIds=ids)
    ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=quick)
    ec2.terminate_instances(InstanceIds=ids)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=quick)


def test_paginators_see_every_instance_once(simulated: Cloud) -> None:
    ec2 = simulated.client()
    made = ec2.run_instances(ImageId=IMAGE, InstanceType="m1.tiny", MinCount=23, MaxCount=23)["Instances"]
    ids = {one["InstanceId"] for one in made}
    pages = list(ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    seen = [one["InstanceId"] for page in pages for reservation in page["Reservations"] for one in reservation["Instances"]]
    assert len(seen) == len(set(seen))
    assert ids <= set(seen)
    assert all(sum(len(r["Instances"]) for r in page["Reservations"]) <= 5 for page in pages)
    ec2.terminate_instances(InstanceIds=sorted(ids))


def test_the_aws_command_runs_describes_and_terminates(simulated: Cloud) -> None:
    if shutil.which("aws") is None:
        pytest.skip("needs the aws command: pip install awscli")
    who = json.loads(run(simulated, "aws", "sts", "get-caller-identity").stdout)
    assert who["Account"] == simulated.facts["account"]
    made = run(simulated, "aws", "ec2", "run-instances", "--image-id", IMAGE, "--instance-type", "t3.nano", "--output", "json")
    id = json.loads(made.stdout)["Instances"][0]["InstanceId"]
    run(simulated, "aws", "ec2", "create-tags", "--resources", id, "--tags", "Key=Name,Value=made by aws")
    found = run(
        simulated,
        *("aws", "ec2", "describe-instances", "--filters", "Name=tag:Name,Values=made by*"),
        *("--query", "Reservations[].Instances[].InstanceId", "--output", "text"),
    )
    assert found.stdout.split() == [id]
    run(simulated, "aws", "ec2", "terminate-instances", "--instance-ids", id)
    absent = run(simulated, "aws", "ec2", "describe-instances", "--instance-ids", "i-0123456789abcdef0", ok=False)
    assert absent.returncode != 0
    assert "InvalidInstanceID.NotFound" in absent.stderr


@needs_terraform
def test_terraform_applies_plans_nothing_changes_a_tag_and_destroys(simulated: Cloud, tmp_path: Path) -> None:
    terraform = terraform_of(simulated, "instance.tf", tmp_path)
    terraform("apply", "-auto-approve")
    again = terraform("plan", "-detailed-exitcode", ok=False)
    assert again.returncode == 0, f"the second plan is not empty:\n{again.stdout}"
    ec2 = simulated.client()

    def colours() -> list[str]:
        states = [{"Name": "instance-state-name", "Values": ["running"]}, {"Name": "tag:Name", "Values": ["web"]}]
        found = [one for r in ec2.describe_instances(Filters=states)["Reservations"] for one in r["Instances"]]
        return [tag["Value"] for one in found for tag in one["Tags"] if tag["Key"] == "colour"]

    assert colours() == ["red"]
    terraform("apply", "-auto-approve", "-var", "colour=blue")
    assert colours() == ["blue"]
    terraform("destroy", "-auto-approve", "-var", "colour=blue")
    assert colours() == []
    assert ec2.describe_key_pairs()["KeyPairs"] == []
