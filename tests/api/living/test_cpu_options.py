"""Goal: an instance has as many cores and threads as was asked, within what Amazon's page lists for its type, and says so; a
stopped one can be given others. Method: whole calls against a cloud with simulated hosts; what the host was told is read from
the row that it is told by."""

from typing import Any

from alto.daemons.server import TINY_IMAGE_ID
from alto.model.hosts import Host
from alto.model.instances import Instance
from alto.plan.instances import machine_of
from tests.api.cloud import Tenant
from tests.api.living.things import instance_of, launched, until


def options(cores: int, threads: int) -> dict[str, int]:
    return {"CoreCount": cores, "ThreadsPerCore": threads}


def row(tenant: Tenant, id: str) -> Instance:
    return tenant.cloud.store.read(lambda reader: reader.get(Instance, id))


def used(tenant: Tenant) -> int:
    return sum(one.vcpus_used for one in tenant.cloud.store.read(lambda reader: reader.where(Host)))


def test_what_types_offer(tenant: Tenant) -> None:
    """Rows of "Supported CPU options for Amazon EC2 instance types", as of 2025."""
    expected = {
        "m5.large": ([1], [1, 2]),
        "m5.2xlarge": ([2, 4], [1, 2]),
        "c5.4xlarge": ([2, 4, 6, 8], [1, 2]),
        "t3.2xlarge": ([2, 4], [1, 2]),
        "m6g.xlarge": ([1, 2, 3, 4], [1]),
        "t2.micro": ([1], [1]),
        "m5.metal": ([48], [2]),
    }
    found = tenant("DescribeInstanceTypes", InstanceTypes=list(expected))["InstanceTypes"]
    shown = {one["InstanceType"]: one["VCpuInfo"] for one in found}
    assert {name: (one["ValidCores"], one["ValidThreadsPerCore"]) for name, one in shown.items()} == expected
    only = [{"Name": "vcpu-info.valid-cores", "Values": ["6"]}]
    found = tenant("DescribeInstanceTypes", InstanceTypes=list(expected), Filters=only)["InstanceTypes"]
    assert [one["InstanceType"] for one in found] == ["c5.4xlarge"]


def test_a_launch_has_what_it_asks_for(tenant: Tenant) -> None:
    before = used(tenant)
    id = launched(tenant, InstanceType="m5.2xlarge", CpuOptions=options(2, 1))
    assert instance_of(tenant, id)["CpuOptions"] == options(2, 1)
    assert used(tenant) == before + 2
    machine = machine_of(row(tenant, id))
    assert (machine.vcpus, machine.threads_per_core) == (2, 1)
    assert tenant("GetLaunchTemplateData", InstanceId=id)["LaunchTemplateData"]["CpuOptions"] == options(2, 1)
    data = {"ImageId": TINY_IMAGE_ID, "InstanceType": "m5.2xlarge", "CpuOptions": options(4, 1)}
    tenant("CreateLaunchTemplate", LaunchTemplateName="quiet", LaunchTemplateData=data)
    (made,) = tenant("RunInstances", LaunchTemplate={"LaunchTemplateName": "quiet"}, MinCount=1, MaxCount=1)["Instances"]
    assert made["CpuOptions"] == options(4, 1)

    def refused(**chosen: Any) -> str:
        wish = {"ImageId": TINY_IMAGE_ID, "MinCount": 1, "MaxCount": 1, "InstanceType": "m5.2xlarge"}
        return tenant.refused("RunInstances", CpuOptions=chosen, **wish)

    for cores, threads in ((3, 1), (0, 1), (8, 1), (4, 3), (4, 0)):
        assert refused(**options(cores, threads)) == "InvalidParameterValue"
    assert refused(CoreCount=2) == refused(ThreadsPerCore=1) == "InvalidParameterCombination"
    assert refused(AmdSevSnp="enabled") == "UnsupportedOperation"


def test_a_stopped_instance_gets_others(tenant: Tenant) -> None:
    id = launched(tenant, InstanceType="m5.2xlarge")
    before = used(tenant)
    assert instance_of(tenant, id)["CpuOptions"] == options(4, 2)
    assert tenant.refused("ModifyInstanceCpuOptions", InstanceId=id, **options(2, 1)) == "IncorrectInstanceState"
    tenant("StopInstances", InstanceIds=[id])
    until(tenant, lambda: instance_of(tenant, id)["State"]["Name"] == "stopped")
    assert tenant.refused("ModifyInstanceCpuOptions", InstanceId=id, **options(3, 1)) == "InvalidParameterValue"
    assert tenant.refused("ModifyInstanceCpuOptions", InstanceId=id, CoreCount=2) == "InvalidParameterCombination"
    assert tenant.refused("ModifyInstanceCpuOptions", InstanceId=id) == "MissingParameter"
    missing = "i-00000000000000000"
    assert tenant.refused("ModifyInstanceCpuOptions", InstanceId=missing, **options(2, 1)) == "InvalidInstanceID.NotFound"
    assert tenant.refused("ModifyInstanceCpuOptions", InstanceId=id, DryRun=True, **options(2, 1)) == "DryRunOperation"
    answer = tenant("ModifyInstanceCpuOptions", InstanceId=id, **options(2, 1))
    assert answer == {"InstanceId": id, **options(2, 1)}
    tenant("StartInstances", InstanceIds=[id])
    until(tenant, lambda: instance_of(tenant, id)["State"]["Name"] == "running")
    assert instance_of(tenant, id)["CpuOptions"] == options(2, 1)
    assert used(tenant) == before - 6
    # Another type begins with its own.
    tenant("StopInstances", InstanceIds=[id])
    until(tenant, lambda: instance_of(tenant, id)["State"]["Name"] == "stopped")
    tenant("ModifyInstanceAttribute", InstanceId=id, InstanceType={"Value": "c5.4xlarge"})
    assert instance_of(tenant, id)["CpuOptions"] == options(8, 2)
