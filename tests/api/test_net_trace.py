"""Goal: `net/trace` finds the places that it is asked for, shows the rules of the caller alone, and says what decides.

Method: instances launched over the wire and reported to run, groups changed by EC2's own operations, questions by every kind of
name. What a trace says of any rules is asked of random networks in tests/plan/test_trace.py.
"""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.instances import Instance, Phase
from tests.api.cloud import Cloud, Tenant
from tests.api.rows import host, tiny
from tests.api.test_beside_instances import IMAGE
from tests.api.test_ipv6_addresses import Dual


@pytest.fixture
def pair(cloud: Cloud, tenant: Tenant) -> list[dict[str, Any]]:
    """Two instances of the default group, called app and web, running."""
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )
    made = []
    for name in ("app", "web"):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        made += tenant("RunInstances", ImageId=IMAGE, MinCount=1, MaxCount=1, TagSpecifications=tags)["Instances"]
    for one in made:
        instance = cloud.store.read(lambda reader, id=one["InstanceId"]: reader.get(Instance, id))  # type: ignore[misc]
        cloud.put(replace(instance, host_id="h-1", phase=Phase.RUNNING))
    return made


def traced(tenant: Tenant, source: str, destination: str, **more: Any) -> dict[str, Any]:
    status, answer = tenant.local("POST", "net/trace", {"source": source, "destination": destination, **more})
    assert status == 200, answer
    return dict(answer)


def refusal(tenant: Tenant, source: str, destination: str, **more: Any) -> tuple[int, str, str]:
    status, answer = tenant.local("POST", "net/trace", {"source": source, "destination": destination, **more})
    return status, answer["error"]["code"], answer["error"]["message"]


def test_every_kind_of_name_means_the_same_place(tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    app, web = pair
    answers = [
        traced(tenant, source, destination, port=443)
        for source in ("app", app["InstanceId"], app["NetworkInterfaces"][0]["NetworkInterfaceId"], app["PublicIpAddress"])
        for destination in ("web", web["InstanceId"], web["PrivateIpAddress"])
    ]
    for answer in answers:
        assert (answer["arrives"], answer["answered"], answer["simulated"]) == (True, True, True)
        assert answer["destination"]["instance_id"] == web["InstanceId"]
        assert (answer["there"], answer["back"]) == (answers[0]["there"], answers[0]["back"])


def test_the_deciding_rule_is_named_by_the_id_that_ec2_shows(tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    group = pair[1]["SecurityGroups"][0]["GroupId"]
    before = traced(tenant, "internet", "web", port=443)
    assert (before["arrives"], before["there"][-1]["rule"]) == (False, "default")
    rule = tenant(
        "AuthorizeSecurityGroupIngress", GroupId=group, IpProtocol="tcp", FromPort=443, ToPort=443, CidrIp="0.0.0.0/0"
    )["SecurityGroupRules"][0]["SecurityGroupRuleId"]
    after = traced(tenant, "internet", "web", port=443)
    assert (after["arrives"], after["answered"], after["there"][-1]["rule"]) == (True, True, rule)
    assert after["verdict"] == "arrives and is answered"
    assert traced(tenant, "198.51.100.7", pair[1]["PublicIpAddress"], port=443)["arrives"]
    assert not traced(tenant, "internet", "web", port=80)["arrives"]
    assert traced(tenant, "app", "internet", port=80)["arrives"]


def test_a_public_address_is_not_reached_from_inside(tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    answer = traced(tenant, "app", pair[1]["PublicIpAddress"], port=443)
    assert (answer["arrives"], answer["there"][-1]["what"]) == (False, "internet-gateway")


def test_a_stopped_instance_is_said(cloud: Cloud, tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    instance = cloud.store.read(lambda reader: reader.get(Instance, pair[1]["InstanceId"]))
    cloud.put(replace(instance, phase=Phase.STOPPED))
    assert f"{instance.id} is stopped" in traced(tenant, "app", "web", protocol="icmp")["verdict"]


def test_what_makes_no_sense_is_refused_with_a_sentence(tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    assert refusal(tenant, "app", "nobody", port=1)[:2] == (404, "not-found")
    assert refusal(tenant, "10.9.8.7", "app", port=1)[0] == 404
    assert "needs a port" in refusal(tenant, "app", "web")[2]
    assert "no protocol" in refusal(tenant, "app", "web", protocol="tcpp", port=1)[2]
    assert "has no ports" in refusal(tenant, "app", "web", protocol="50", port=1)[2]
    assert "never leaves its guest" in refusal(tenant, "app", pair[0]["PrivateIpAddress"], port=1)[2]
    assert refusal(tenant, "app", "web", port=65536)[0] == 400
    assert refusal(tenant, "app", "web", prot=1)[0] == 400
    assert "neither end" in traced(tenant, "internet", "198.51.100.1", port=1)["verdict"]


def test_two_of_one_name_are_told_apart_by_their_ids(tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    tenant("CreateTags", Resources=[pair[0]["InstanceId"]], Tags=[{"Key": "Name", "Value": "web"}])
    status, _, sentence = refusal(tenant, "web", "internet", port=1)
    assert status == 400
    assert pair[0]["InstanceId"] in sentence
    assert pair[1]["InstanceId"] in sentence


def test_another_account_sees_none_of_it(cloud: Cloud, tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    stranger = cloud.account("stranger")
    assert refusal(stranger, pair[0]["InstanceId"], "internet", port=1)[:2] == (404, "not-found")
    eni = pair[0]["NetworkInterfaces"][0]["NetworkInterfaceId"]
    assert refusal(stranger, eni, "internet", port=1)[0] in (400, 404)
    assert refusal(stranger, "app", "internet", port=1)[0] == 404
    assert not traced(stranger, "internet", pair[0]["PublicIpAddress"], port=443)["arrives"]


def test_an_address_of_ipv6_makes_the_flow_one_of_ipv6(tenant: Tenant, cloud: Cloud) -> None:
    """Rules for IPv4 decide nothing there; an end that is named otherwise has its address of IPv6."""
    cloud.put(
        host(1, vcpus=64, memory_mib=64_000),
        tiny(size_gib=2),
    )
    dual = Dual(tenant)
    given = {"ImageId": IMAGE, "MinCount": 1, "MaxCount": 1, "SubnetId": dual.subnet}
    made = [tenant("RunInstances", Ipv6Addresses=[{"Ipv6Address": dual[number]}], **given)["Instances"][0] for number in (5, 6)]
    made += tenant("RunInstances", **given)["Instances"]
    for one in made:
        instance = cloud.store.read(lambda reader, id=one["InstanceId"]: reader.get(Instance, id))  # type: ignore[misc]
        cloud.put(replace(instance, host_id="h-1", phase=Phase.RUNNING))
    first, second, without = (one["InstanceId"] for one in made)
    told = traced(tenant, first, dual[6], port=443)
    assert (told["source"]["address"], told["destination"]["instance_id"]) == (dual[5], second)
    assert (told["arrives"], told["answered"]) == (True, True)
    assert traced(tenant, dual[5].upper(), second, protocol="icmp")["traffic"] == "icmpv6 type 128"
    group = made[1]["SecurityGroups"][0]["GroupId"]
    rules = tenant("DescribeSecurityGroups", GroupIds=[group])["SecurityGroups"][0]
    tenant("RevokeSecurityGroupIngress", GroupId=group, IpPermissions=rules["IpPermissions"])
    any_v4 = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[any_v4])
    told = traced(tenant, first, dual[6], port=443)
    assert (told["arrives"], told["there"][-1]["what"], told["there"][-1]["passes"]) == (False, "security-group", False)
    any_v6 = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "Ipv6Ranges": [{"CidrIpv6": f"{dual[5]}/128"}]}
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[any_v6])
    assert traced(tenant, first, dual[6], port=443)["arrives"] is True
    assert traced(tenant, "internet", dual[6], port=443)["arrives"] is False
    assert traced(tenant, dual[5], "internet", port=443)["arrives"] is False
    assert "no address of IPv6" in refusal(tenant, without, dual[6], port=443)[2]
    assert refusal(tenant, made[0]["PrivateIpAddress"], dual[6], port=443)[1] == "InvalidParameterValue"


def test_an_endpoint_answers_as_its_group_says_and_at_one_port(tenant: Tenant, pair: list[dict[str, Any]]) -> None:
    group = tenant("CreateSecurityGroup", GroupName="ends", Description="d")["GroupId"]
    made = tenant(
        "CreateVpcEndpoint",
        VpcId=pair[0]["VpcId"],
        ServiceName="com.amazonaws.us-east-1.ec2",
        VpcEndpointType="Interface",
        SubnetIds=[pair[0]["SubnetId"]],
        SecurityGroupIds=[group],
    )
    (interface,) = made["VpcEndpoint"]["NetworkInterfaceIds"]
    shut = traced(tenant, "app", interface, port=80)
    assert not shut["arrives"]
    assert shut["there"][-1]["id"] == group
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    tenant("AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=everything)
    answer = traced(tenant, "app", interface, port=80)
    assert (answer["arrives"], answer["answered"]) == (True, True)
    other = traced(tenant, "app", interface, port=443)
    assert not other["arrives"]
    assert (other["there"][-1]["what"], other["there"][-1]["passes"]) == ("vpc-endpoint", False)
