"""What the metadata service says of one instance, as a tree: pure, from the machine and its VPC.

A folder is a dictionary, a leaf is bytes. Names, spelling and layout are AWS's ("Instance metadata categories" in the EC2 user
guide), so that cloud-init and SDKs find what they look for. What is not true here is not there: no credentials, no signatures.
Not here: who asks, and whether they may (boot/imds.py).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias, Union

from alto.model.instances import Attach, Machine, Nic
from alto.model.network_plans import NetworkPlan
from alto.model.networks import PortAddress
from alto.plan.addresses import hostname

Tree: TypeAlias = Mapping[str, Union["Tree", bytes]]

# All that AWS's own service lists. Each answers alike: a date only ever added things, and nobody relies on their absence.
VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04"),
    *("2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30"),
    *("2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23"),
    *("2021-07-15", "2022-09-24", "2024-04-11", "latest"),
)


def find(tree: Tree, path: tuple[str, ...]) -> bytes | None:
    """The leaf, or a folder's listing; None when there is no such thing."""
    here: Tree | bytes | None = tree
    for name in path:
        if here is None or isinstance(here, bytes):
            return None
        here = here[name] if name in here else _numbered(here, name)
    if here is None or isinstance(here, bytes):
        return here
    return "\n".join(_shown(name, entry) for name, entry in here.items()).encode()


def _shown(name: str, entry: Tree | bytes) -> str:
    return name if isinstance(entry, bytes) or "=" in name else f"{name}/"


def _numbered(folder: Tree, number: str) -> Tree | None:
    """Public keys alone are listed as "0=name" and asked for as "0"."""
    for name, entry in folder.items():
        if not isinstance(entry, bytes) and name.startswith(f"{number}="):
            return entry
    return None


def tree_of(machine: Machine, plan: NetworkPlan) -> Tree:
    """Below the version. The listing of a folder is in AWS's order, which is alphabetical."""
    tree: dict[str, Tree | bytes] = {
        "dynamic": {"instance-identity": {"document": identity_document(machine)}},
        "meta-data": _meta_data(machine, plan),
    }
    user_data = _user_data(machine)
    if user_data is not None:
        tree["user-data"] = user_data
    return tree


def _meta_data(machine: Machine, plan: NetworkPlan) -> Tree:
    meta: dict[str, Tree | bytes | str | None] = {
        "ami-id": machine.image_id,
        "ami-launch-index": str(machine.launch_index),
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": {"ami": machine.root.device.encode(), "root": machine.root.device.encode()},
        "hostname": machine.hostname,
        "iam": _iam(machine),
        "instance-action": "none",
        "instance-id": machine.id,
        "instance-life-cycle": "on-demand",
        "instance-type": machine.instance_type,
        "ipv6": machine.nic.ipv6[0] if machine.nic.ipv6 else None,
        "local-hostname": machine.hostname,
        "local-ipv4": machine.nic.private_ip,
        "mac": machine.nic.mac,
        "network": {"interfaces": {"macs": _interfaces(machine, plan)}},
        "placement": {"availability-zone": machine.zone.encode(), "region": machine.region.encode()},
        "profile": "default-hvm",
        "public-ipv4": machine.nic.public_ip,
        "public-keys": _public_keys(machine),
        "reservation-id": machine.reservation_id,
        "security-groups": "\n".join(_group_names(machine.nic, plan)),
        "services": {"domain": b"amazonaws.com", "partition": b"aws"},
        "tags": _tags(machine),
    }
    if machine.group_name is not None:
        meta["autoscaling"] = {"target-lifecycle-state": b"InService"}
    return _without_none(dict(sorted(meta.items())))


def _iam(machine: Machine) -> Tree | None:
    """What AWS tells of a profile without a role: its name, and no credentials."""
    if machine.profile is None:
        return None
    info = {
        "Code": "Success",
        "LastUpdated": datetime.fromtimestamp(machine.profile.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "InstanceProfileArn": machine.profile.arn,
        "InstanceProfileId": machine.profile.id,
    }
    return {"info": json.dumps(info, indent=2, separators=(",", " : ")).encode()}


def _interfaces(machine: Machine, plan: NetworkPlan) -> Tree:
    """By hardware address; one that is being detached is gone already."""
    return {nic.mac: _interface(machine, nic, plan) for nic in machine.nics if nic.attach is not Attach.DETACHING}


def _interface(machine: Machine, nic: Nic, plan: NetworkPlan) -> Tree:
    addresses = (PortAddress(private_ip=nic.private_ip, public_ip=nic.public_ip), *nic.secondary)
    public = {one.public_ip: one.private_ip.encode() for one in addresses if one.public_ip is not None}
    subnet = next((one for one in plan.subnets if one.id == nic.subnet_id), None)
    entries: dict[str, Tree | bytes | str | None] = {
        "device-number": str(nic.device_index),
        "interface-id": nic.interface_id,
        "ipv4-associations": public or None,
        "ipv6s": "\n".join(nic.ipv6) or None,
        "local-hostname": machine.hostname if nic is machine.nic else hostname(nic.private_ip, machine.region),
        "local-ipv4s": "\n".join(one.private_ip for one in addresses),
        "mac": nic.mac,
        "owner-id": machine.account,
        "public-ipv4s": "\n".join(public) or None,
        "security-group-ids": "\n".join(nic.group_ids),
        "security-groups": "\n".join(_group_names(nic, plan)),
        "subnet-id": nic.subnet_id,
        "subnet-ipv4-cidr-block": subnet.cidr if subnet is not None else None,
        "subnet-ipv6-cidr-blocks": subnet.cidr_v6 if subnet is not None else None,
        "vpc-id": nic.vpc_id,
    }
    if nic.vpc_id == plan.vpc_id:
        entries["vpc-ipv4-cidr-block"] = plan.cidr
        entries["vpc-ipv4-cidr-blocks"] = "\n".join(plan.ranges)
        entries["vpc-ipv6-cidr-blocks"] = "\n".join(plan.ranges_v6) or None
    return _without_none(entries)


def _public_keys(machine: Machine) -> Tree | None:
    if machine.public_key is None:
        return None
    return {f"0={machine.key_name or ''}": {"openssh-key": machine.public_key.strip().encode() + b"\n"}}


def _group_names(nic: Nic, plan: NetworkPlan) -> list[str]:
    names = {group.id: group.name for group in plan.groups}
    return [names.get(id, id) for id in nic.group_ids]


def _tags(machine: Machine) -> Tree | None:
    if not machine.metadata.tags_enabled or not machine.tags:
        return None
    return {"instance": {key: value.encode() for key, value in sorted(machine.tags.items())}}


def _user_data(machine: Machine) -> bytes | None:
    if machine.user_data is None:
        return None
    try:
        return base64.b64decode(machine.user_data) or None
    except (binascii.Error, ValueError):
        return None


def _without_none(entries: Mapping[str, Tree | bytes | str | None]) -> Tree:
    return {name: entry.encode() if isinstance(entry, str) else entry for name, entry in entries.items() if entry is not None}


def identity_document(machine: Machine) -> bytes:
    """AWS's keys, its `" : "` and its two spaces. It is not signed, and says so by the absence of its signatures."""
    document = {
        "accountId": machine.account,
        "architecture": "x86_64",
        "availabilityZone": machine.zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": machine.image_id,
        "instanceId": machine.id,
        "instanceType": machine.instance_type,
        "kernelId": None,
        "pendingTime": datetime.fromtimestamp(machine.launched_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": machine.nic.private_ip,
        "ramdiskId": None,
        "region": machine.region,
        "version": "2017-09-30",
    }
    return json.dumps(document, indent=2, separators=(",", " : ")).encode()
