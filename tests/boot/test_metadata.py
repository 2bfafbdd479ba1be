"""Goal: the tree of metadata has AWS's names and shapes, and says nothing that is not true here.

Method: build it for a machine that has everything and for one that has nothing; expected texts are from the EC2 user guide
("Instance metadata categories", "Instance identity documents") and from what cloud-init 22.4 was seen to ask for.
"""

import base64
import json

import msgspec

from alto.boot.metadata import VERSIONS, find, tree_of
from alto.model.instances import Attach, MetadataOptions, Nic
from alto.model.networks import PortAddress
from tests.drivers.network.samples import DEFAULT, group, machine, plan, port

PORT = port(1, "sg-default", "sg-web", public_ip="127.64.0.5")
MACHINE = machine(
    1,
    of=PORT,
    user_data=base64.b64encode(b"#cloud-config\n\xff").decode(),
    public_key="ssh-ed25519 AAAAC3Nz comment\n",
    key_name="my key",
    launched_at=1_700_000_000.0,
    metadata=MetadataOptions(tags_enabled=True),
    tags={"Name": "web 1", "stage": ""},
    group_name="asg",
)
PLAN = plan(msgspec.structs.replace(DEFAULT, name="default"), msgspec.structs.replace(group("sg-web"), name="the web"))
TREE = tree_of(MACHINE, PLAN)


def at(path: str, tree: object = TREE) -> bytes | None:
    return find(tree, tuple(part for part in path.split("/") if part))  # type: ignore[arg-type]


def test_what_aws_says_at_each_path() -> None:
    mac = "network/interfaces/macs/02:00:0a:4d:00:0b"
    expected = {
        "ami-id": b"ami-00000000000000001",
        "ami-launch-index": b"0",
        "instance-id": b"i-00000000000000001",
        "instance-type": b"t3.nano",
        "instance-life-cycle": b"on-demand",
        "hostname": b"ip-10-77-0-11.ec2.internal",
        "local-hostname": b"ip-10-77-0-11.ec2.internal",
        "local-ipv4": b"10.77.0.11",
        "public-ipv4": b"127.64.0.5",
        "mac": b"02:00:0a:4d:00:0b",
        "placement/availability-zone": b"us-east-1a",
        "placement/region": b"us-east-1",
        "reservation-id": b"r-00000000000000001",
        "security-groups": b"default\nthe web",
        "services/domain": b"amazonaws.com",
        "services/partition": b"aws",
        "block-device-mapping/root": b"/dev/sda1",
        "public-keys/0/openssh-key": b"ssh-ed25519 AAAAC3Nz comment\n",
        "tags/instance/Name": b"web 1",
        "tags/instance/stage": b"",
        "autoscaling/target-lifecycle-state": b"InService",
        f"{mac}/device-number": b"0",
        f"{mac}/interface-id": b"eni-00000000000000001",
        f"{mac}/ipv4-associations/127.64.0.5": b"10.77.0.11",
        f"{mac}/local-ipv4s": b"10.77.0.11",
        f"{mac}/mac": b"02:00:0a:4d:00:0b",
        f"{mac}/owner-id": b"000000000000",
        f"{mac}/public-ipv4s": b"127.64.0.5",
        f"{mac}/security-group-ids": b"sg-default\nsg-web",
        f"{mac}/subnet-id": b"subnet-vpc-1",
        f"{mac}/subnet-ipv4-cidr-block": b"10.77.0.0/24",
        f"{mac}/vpc-id": b"vpc-1",
        f"{mac}/vpc-ipv4-cidr-block": b"10.77.0.0/16",
    }
    assert {path: at(f"meta-data/{path}") for path in expected} == expected
    assert at("user-data") == b"#cloud-config\n\xff"


def test_each_interface_has_its_folder_with_all_its_addresses() -> None:
    nic = msgspec.structs.replace(MACHINE.nic, secondary=(PortAddress(private_ip="10.77.0.99", public_ip="127.64.0.6"),))
    second = Nic(
        interface_id="eni-00000000000000002",
        attachment_id="eni-attach-00000000000000002",
        subnet_id="subnet-vpc-1",
        vpc_id="vpc-1",
        mac="02:00:0a:4d:00:63",
        private_ip="10.77.0.50",
        public_ip=None,
        group_ids=("sg-web",),
        device_index=1,
    )
    leaving = msgspec.structs.replace(second, mac="02:00:0a:4d:00:64", attach=Attach.DETACHING)
    tree = tree_of(msgspec.structs.replace(MACHINE, nics=(nic, second, leaving)), PLAN)
    macs = "meta-data/network/interfaces/macs"
    assert at(macs, tree) == b"02:00:0a:4d:00:0b/\n02:00:0a:4d:00:63/"
    first = f"{macs}/02:00:0a:4d:00:0b"
    assert at(f"{first}/local-ipv4s", tree) == b"10.77.0.11\n10.77.0.99"
    assert at(f"{first}/public-ipv4s", tree) == b"127.64.0.5\n127.64.0.6"
    assert at(f"{first}/ipv4-associations/127.64.0.6", tree) == b"10.77.0.99"
    other = f"{macs}/02:00:0a:4d:00:63"
    assert at(f"{other}/device-number", tree) == b"1"
    assert at(f"{other}/local-hostname", tree) == b"ip-10-77-0-50.ec2.internal"
    assert at(f"{other}/security-groups", tree) == b"the web"
    assert at(f"{other}/subnet-ipv4-cidr-block", tree) == b"10.77.0.0/24"
    assert at(f"{other}/public-ipv4s", tree) is None
    assert at("meta-data/local-ipv4", tree) == b"10.77.0.11"


def test_folders_list_as_crawlers_expect() -> None:
    assert at("") == b"dynamic/\nmeta-data/\nuser-data"
    assert at("meta-data/placement") == b"availability-zone\nregion"
    assert at("meta-data/public-keys") == b"0=my key"
    assert at("meta-data/public-keys/0") == b"openssh-key"
    assert at("meta-data/network/interfaces/macs") == b"02:00:0a:4d:00:0b/"
    names = (at("meta-data") or b"").decode().splitlines()
    assert names == sorted(names)
    assert {"placement/", "public-keys/", "network/", "ami-id", "instance-id"} <= set(names)


def test_every_listed_entry_is_there() -> None:
    """cloud-init asks for each entry of each listing and gives up on the first that is missing."""
    waiting, leaves = ["meta-data", "dynamic"], 0
    while waiting:
        path = waiting.pop()
        for entry in (at(path) or b"").decode().splitlines():
            name = entry.split("=")[0] if path.endswith("public-keys") else entry
            found = at(f"{path}/{name}")
            assert found is not None, f"{path}/{name}"
            if entry.endswith("/") or path.endswith("public-keys"):
                waiting.append(f"{path}/{name.rstrip('/')}")
            else:
                leaves += 1
    assert leaves > 30


def test_the_identity_document_has_awss_keys() -> None:
    document = at("dynamic/instance-identity/document") or b""
    assert b'"instanceId" : "i-00000000000000001"' in document
    assert json.loads(document) == {
        "accountId": "000000000000",
        "architecture": "x86_64",
        "availabilityZone": "us-east-1a",
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": "ami-00000000000000001",
        "instanceId": "i-00000000000000001",
        "instanceType": "t3.nano",
        "kernelId": None,
        "pendingTime": "2023-11-14T22:13:20Z",
        "privateIp": "10.77.0.11",
        "ramdiskId": None,
        "region": "us-east-1",
        "version": "2017-09-30",
    }
    # Nothing here could be verified with Amazon's keys, so nothing pretends to be signed.
    for name in ("signature", "pkcs7", "rsa2048"):
        assert at(f"dynamic/instance-identity/{name}") is None


def test_what_an_instance_does_not_have_is_not_there() -> None:
    tree = tree_of(machine(2), plan())
    for path in ("user-data", "meta-data/public-ipv4", "meta-data/public-keys", "meta-data/tags", "meta-data/iam"):
        assert at(path, tree) is None, path
    assert b"public-" not in (at("meta-data", tree) or b"")
    hidden = tree_of(machine(2, tags={"Name": "x"}), plan())
    assert at("meta-data/tags/instance/Name", hidden) is None
    assert at("meta-data/ami-id/x", tree) is None
    assert at("meta-data/nothing", tree) is None


def test_the_versions_that_clients_probe_are_there() -> None:
    probed = {"1.0", "2007-01-19", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest"}
    assert probed <= set(VERSIONS)
    assert list(VERSIONS) == sorted(VERSIONS)
