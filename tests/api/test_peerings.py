"""Goal: peering connections go through the states of "VPC peering connection lifecycle", and each side may do only its part.
Method: whole operations over a store in memory, by one account and by two."""

from typing import Any

import pytest
from msgspec.structs import replace

from alto.model.routing import VpcPeering
from tests.api.cloud import Tenant

WEEK_S = 7 * 24 * 3600.0


def vpc_of(tenant: Tenant, cidr: str) -> str:
    id: str = tenant("CreateVpc", CidrBlock=cidr)["Vpc"]["VpcId"]
    return id


def between(tenant: Tenant, stranger: Tenant) -> str:
    made = tenant(
        "CreateVpcPeeringConnection",
        VpcId=vpc_of(tenant, "10.0.0.0/16"),
        PeerVpcId=vpc_of(stranger, "10.1.0.0/16"),
        PeerOwnerId=stranger.account.id,
    )
    id: str = made["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    return id


def shown(tenant: Tenant, id: str) -> dict[str, Any]:
    (found,) = tenant("DescribeVpcPeeringConnections", VpcPeeringConnectionIds=[id])["VpcPeeringConnections"]
    return dict(found)


def state(tenant: Tenant, id: str) -> str:
    code: str = shown(tenant, id)["Status"]["Code"]
    return code


def test_from_asking_to_the_end(tenant: Tenant) -> None:
    one, other = vpc_of(tenant, "10.0.0.0/16"), vpc_of(tenant, "10.1.0.0/16")
    made = tenant("CreateVpcPeeringConnection", VpcId=one, PeerVpcId=other)["VpcPeeringConnection"]
    id = made["VpcPeeringConnectionId"]
    assert made["Status"] == {"Code": "initiating-request", "Message": f"Initiating Request to {tenant.account.id}"}
    assert shown(tenant, id)["Status"] == {
        "Code": "pending-acceptance",
        "Message": f"Pending Acceptance by {tenant.account.id}",
    }
    assert (made["RequesterVpcInfo"]["VpcId"], made["AccepterVpcInfo"]["VpcId"]) == (one, other)
    # Asked again it is the same one; the other way round it is another, and only one of the two can be accepted.
    again = tenant("CreateVpcPeeringConnection", VpcId=one, PeerVpcId=other)["VpcPeeringConnection"]
    assert (again["VpcPeeringConnectionId"], again["Status"]["Code"]) == (id, "pending-acceptance")
    reverse = tenant("CreateVpcPeeringConnection", VpcId=other, PeerVpcId=one)["VpcPeeringConnection"]
    accepted = tenant("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)["VpcPeeringConnection"]
    assert accepted["Status"] == {"Code": "active", "Message": "Active"}
    refusal = tenant.refusal("AcceptVpcPeeringConnection", VpcPeeringConnectionId=reverse["VpcPeeringConnectionId"])
    assert refusal.startswith("VpcPeeringConnectionAlreadyExists: ")
    assert tenant.refused("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id) == "InvalidStateTransition"
    assert tenant.refused("RejectVpcPeeringConnection", VpcPeeringConnectionId=id) == "InvalidStateTransition"
    assert tenant.refused("DeleteVpc", VpcId=one) == "DependencyViolation"
    # A route through it is a black hole once it has ended.
    table = tenant("CreateRouteTable", VpcId=one)["RouteTable"]["RouteTableId"]
    tenant("CreateRoute", RouteTableId=table, DestinationCidrBlock="10.1.0.0/16", VpcPeeringConnectionId=id)
    tenant("DeleteVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert state(tenant, id) == "deleted"
    (found,) = tenant("DescribeRouteTables", RouteTableIds=[table])["RouteTables"]
    assert [route["State"] for route in found["Routes"]] == ["active", "blackhole"]
    assert tenant.refusal("DeleteVpcPeeringConnection", VpcPeeringConnectionId=id) == (
        f"InvalidStateTransition: Invalid state transition for {id}, attempted to transition from deleted to deleting"
    )


def test_two_accounts(tenant: Tenant, stranger: Tenant) -> None:
    id = between(tenant, stranger)
    # Before the answer who asked does not see the other's range.
    assert "CidrBlock" not in shown(tenant, id)["AccepterVpcInfo"]
    assert shown(stranger, id)["AccepterVpcInfo"]["CidrBlock"] == "10.1.0.0/16"
    refusal = tenant.refusal("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert refusal == f"OperationNotPermitted: User {tenant.account.id} cannot accept peering {id}"
    assert state(stranger, id) == "pending-acceptance"
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert state(tenant, id) == state(stranger, id) == "active"
    assert shown(tenant, id)["AccepterVpcInfo"]["CidrBlockSet"] == [{"CidrBlock": "10.1.0.0/16"}]
    third = tenant.cloud.account("third")
    assert third("DescribeVpcPeeringConnections")["VpcPeeringConnections"] == []
    gone = third.refused("DeleteVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert gone == "InvalidVpcPeeringConnectionID.NotFound"
    stranger("DeleteVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert state(tenant, id) == "deleted"


def test_rejected_and_expired(tenant: Tenant, stranger: Tenant) -> None:
    id = between(tenant, stranger)
    stranger("RejectVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert state(tenant, id) == "rejected"
    id = between(tenant, stranger)
    waits_until = shown(tenant, id)["ExpirationTime"].timestamp()
    assert waits_until == pytest.approx(tenant.cloud.clock.seconds + WEEK_S, abs=1)
    # A week later; the clock itself cannot go there, because requests are signed by the real one.
    row = tenant.cloud.store.read(lambda reader: reader.get(VpcPeering, id))
    tenant.cloud.put(replace(row, expires_at=tenant.cloud.clock.seconds))
    assert state(tenant, id) == "expired"
    assert stranger.refused("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id) == "InvalidStateTransition"


HOUR_S = 3600.0


@pytest.mark.parametrize(
    ("ending", "requester_h", "accepter_h"),
    [("expired", 48, 48), ("rejected", 48, 2), ("deleted by its requester", 2, 48), ("deleted by its accepter", 48, 2)],
)
def test_how_long_its_end_is_seen(tenant: Tenant, stranger: Tenant, ending: str, requester_h: float, accepter_h: float) -> None:
    id = between(tenant, stranger)
    for who in (tenant, stranger):
        who("CreateTags", Resources=[id], Tags=[{"Key": "a", "Value": "b"}])
    if ending == "rejected":
        stranger("RejectVpcPeeringConnection", VpcPeeringConnectionId=id)
    elif ending != "expired":
        stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)
        (tenant if "requester" in ending else stranger)("DeleteVpcPeeringConnection", VpcPeeringConnectionId=id)
    for who, shown_h in ((tenant, requester_h), (stranger, accepter_h)):
        for hours in (shown_h - 1, shown_h):
            ended_at = who.cloud.clock.seconds - hours * HOUR_S
            row = who.cloud.store.read(lambda reader: reader.get(VpcPeering, id))
            who.cloud.put(replace(row, **{"expires_at" if ending == "expired" else "ended_at": ended_at}))
            seen = [one["VpcPeeringConnectionId"] for one in who("DescribeVpcPeeringConnections")["VpcPeeringConnections"]]
            tagged = [one["ResourceId"] for one in who("DescribeTags")["Tags"]]
            if hours < shown_h:
                assert seen == tagged == [id]
                assert shown(who, id)["Status"]["Code"] == ending.split()[0]
            else:
                assert seen == tagged == []
                gone = who.refused("DescribeVpcPeeringConnections", VpcPeeringConnectionIds=[id])
                assert gone == "InvalidVpcPeeringConnectionID.NotFound"


def test_a_request_that_failed_never_came_to_the_other(tenant: Tenant, stranger: Tenant) -> None:
    own, foreign = vpc_of(tenant, "10.0.0.0/16"), vpc_of(stranger, "10.0.0.0/16")
    made = tenant("CreateVpcPeeringConnection", VpcId=own, PeerVpcId=foreign, PeerOwnerId=stranger.account.id)
    id = made["VpcPeeringConnection"]["VpcPeeringConnectionId"]
    assert state(tenant, id) == "failed"
    assert stranger("DescribeVpcPeeringConnections")["VpcPeeringConnections"] == []
    refused = stranger.refused("RejectVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert refused == "InvalidVpcPeeringConnectionID.NotFound"


def test_a_route_may_wait_for_the_answer(tenant: Tenant, stranger: Tenant) -> None:
    id = between(tenant, stranger)
    table = tenant("CreateRouteTable", VpcId=shown(tenant, id)["RequesterVpcInfo"]["VpcId"])["RouteTable"]["RouteTableId"]
    wish = {"RouteTableId": table, "VpcPeeringConnectionId": id}
    tenant("CreateRoute", **wish, DestinationCidrBlock="10.1.0.0/16")

    def through() -> list[str]:
        (found,) = tenant("DescribeRouteTables", RouteTableIds=[table])["RouteTables"]
        return [route["State"] for route in found["Routes"] if route.get("VpcPeeringConnectionId") == id]

    assert through() == ["blackhole"]
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert through() == ["active"]
    stranger("DeleteVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert through() == ["blackhole"]
    assert tenant.refused("CreateRoute", **wish, DestinationCidrBlock="10.2.0.0/16") == "InvalidParameterValue"


def test_a_vpc_that_goes_takes_its_own_requests_only(tenant: Tenant, stranger: Tenant) -> None:
    id = between(tenant, stranger)
    asked = {"VpcId": shown(tenant, id)["AccepterVpcInfo"]["VpcId"]}
    assert stranger.refused("DeleteVpc", **asked) == "DependencyViolation"
    tenant("DeleteVpc", VpcId=shown(tenant, id)["RequesterVpcInfo"]["VpcId"])
    assert state(tenant, id) == state(stranger, id) == "deleted"
    stranger("DeleteVpc", **asked)


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "10.0.128.0/20"])
def test_ranges_that_meet_fail(tenant: Tenant, cidr: str) -> None:
    made = tenant("CreateVpcPeeringConnection", VpcId=vpc_of(tenant, "10.0.0.0/16"), PeerVpcId=vpc_of(tenant, cidr))[
        "VpcPeeringConnection"
    ]
    assert state(tenant, made["VpcPeeringConnectionId"]) == "failed"


def test_nobody_learns_whose_vpc_there_is(tenant: Tenant, stranger: Tenant) -> None:
    own, foreign, absent = vpc_of(tenant, "10.0.0.0/16"), vpc_of(stranger, "10.1.0.0/16"), "vpc-00000000000000000"
    for peer in (foreign, absent):
        assert tenant.refused("CreateVpcPeeringConnection", VpcId=own, PeerVpcId=peer) == "InvalidVpcID.NotFound"
    third = tenant.cloud.account("third").account.id
    for peer in (foreign, absent):
        made = tenant("CreateVpcPeeringConnection", VpcId=own, PeerVpcId=peer, PeerOwnerId=third)["VpcPeeringConnection"]
        assert state(tenant, made["VpcPeeringConnectionId"]) == "failed"


def test_across_regions(tenant: Tenant) -> None:
    there = tenant.in_region("eu-central-1")
    own, other = vpc_of(tenant, "10.0.0.0/16"), vpc_of(there, "10.1.0.0/16")
    assert tenant.refused("CreateVpcPeeringConnection", VpcId=own, PeerVpcId=other) == "InvalidVpcID.NotFound"
    made = tenant("CreateVpcPeeringConnection", VpcId=own, PeerVpcId=other, PeerRegion="eu-central-1")["VpcPeeringConnection"]
    id = made["VpcPeeringConnectionId"]
    assert made["AccepterVpcInfo"]["Region"] == "eu-central-1"
    # As EC2 says it.
    for operation, must in (("Accept", "accepted"), ("Reject", "accepted or rejected")):
        refusal = tenant.refusal(f"{operation}VpcPeeringConnection", VpcPeeringConnectionId=id)
        assert refusal == (
            "OperationNotPermitted: Incorrect region (us-east-1) specified for this request. "
            f"VPC peering connection {id} must be {must} in region eu-central-1"
        )
    there("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)
    assert state(tenant, id) == state(there, id) == "active"


def test_options_are_each_sides_own(tenant: Tenant, stranger: Tenant) -> None:
    id = between(tenant, stranger)
    mine = {"RequesterPeeringConnectionOptions": {"AllowDnsResolutionFromRemoteVpc": True}}
    theirs = {"AccepterPeeringConnectionOptions": {"AllowDnsResolutionFromRemoteVpc": True}}
    early = tenant.refusal("ModifyVpcPeeringConnectionOptions", VpcPeeringConnectionId=id, **mine)
    assert early == (
        f"OperationNotPermitted: Peering {id} is not active. Peering options can be added only to active peerings."
    )
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=id)
    for who, whose in ((tenant, theirs), (stranger, mine)):
        assert who.refused("ModifyVpcPeeringConnectionOptions", VpcPeeringConnectionId=id, **whose) == "OperationNotPermitted"
    unnamed = tenant.refused("ModifyVpcPeeringConnectionOptions", VpcPeeringConnectionId=id, **mine)
    assert unnamed == "InvalidVpcPeeringConnectionState.DnsHostnamesDisabled"
    for who, side in ((tenant, "RequesterVpcInfo"), (stranger, "AccepterVpcInfo")):
        who("ModifyVpcAttribute", VpcId=shown(who, id)[side]["VpcId"], EnableDnsHostnames={"Value": True})
    answer = tenant("ModifyVpcPeeringConnectionOptions", VpcPeeringConnectionId=id, **mine)
    assert answer["RequesterPeeringConnectionOptions"]["AllowDnsResolutionFromRemoteVpc"] is True
    assert "AccepterPeeringConnectionOptions" not in answer
    seen = shown(stranger, id)
    assert seen["RequesterVpcInfo"]["PeeringOptions"]["AllowDnsResolutionFromRemoteVpc"] is True
    assert seen["AccepterVpcInfo"]["PeeringOptions"]["AllowDnsResolutionFromRemoteVpc"] is False
    classic = {"RequesterPeeringConnectionOptions": {"AllowEgressFromLocalVpcToRemoteClassicLink": True}}
    refused = tenant.refused("ModifyVpcPeeringConnectionOptions", VpcPeeringConnectionId=id, **classic)
    assert refused == "InvalidParameterValue"


def test_each_side_has_tags_of_its_own(tenant: Tenant, stranger: Tenant) -> None:
    id = between(tenant, stranger)
    tenant("CreateTags", Resources=[id], Tags=[{"Key": "mine", "Value": "1"}])
    stranger("CreateTags", Resources=[id], Tags=[{"Key": "theirs", "Value": "2"}])
    assert shown(tenant, id)["Tags"] == [{"Key": "mine", "Value": "1"}]
    assert shown(stranger, id)["Tags"] == [{"Key": "theirs", "Value": "2"}]
    (listed,) = stranger("DescribeTags", Filters=[{"Name": "resource-id", "Values": [id]}])["Tags"]
    assert (listed["ResourceType"], listed["Key"]) == ("vpc-peering-connection", "theirs")
    by_tag = [{"Name": "tag:mine", "Values": ["1"]}]
    assert len(tenant("DescribeVpcPeeringConnections", Filters=by_tag)["VpcPeeringConnections"]) == 1
    assert stranger("DescribeVpcPeeringConnections", Filters=by_tag)["VpcPeeringConnections"] == []
    stranger("DeleteTags", Resources=[id])
    assert shown(stranger, id)["Tags"] == []


def test_peered_vpcs_stay_apart(tenant: Tenant) -> None:
    one, other = vpc_of(tenant, "10.0.0.0/16"), vpc_of(tenant, "10.1.0.0/16")
    made = tenant("CreateVpcPeeringConnection", VpcId=one, PeerVpcId=other)["VpcPeeringConnection"]
    tenant("AcceptVpcPeeringConnection", VpcPeeringConnectionId=made["VpcPeeringConnectionId"])
    assert tenant.refused("AssociateVpcCidrBlock", VpcId=one, CidrBlock="10.1.128.0/20") == "InvalidVpc.Range"
    tenant("AssociateVpcCidrBlock", VpcId=one, CidrBlock="10.2.0.0/16")
    (seen,) = tenant("DescribeVpcPeeringConnections")["VpcPeeringConnections"]
    assert seen["RequesterVpcInfo"]["CidrBlockSet"] == [{"CidrBlock": "10.0.0.0/16"}, {"CidrBlock": "10.2.0.0/16"}]


def test_filters(tenant: Tenant, stranger: Tenant) -> None:
    active, waiting = between(tenant, stranger), between(tenant, stranger)
    stranger("AcceptVpcPeeringConnection", VpcPeeringConnectionId=active)
    first = shown(tenant, active)
    for name, value, found in (
        ("status-code", "active", [active]),
        ("status-code", "pending-acceptance", [waiting]),
        ("status-message", "Pending*", [waiting]),
        ("requester-vpc-info.vpc-id", first["RequesterVpcInfo"]["VpcId"], [active]),
        ("accepter-vpc-info.cidr-block", "10.1.0.0/16", [active]),
        ("accepter-vpc-info.owner-id", stranger.account.id, [active, waiting]),
        ("requester-vpc-info.owner-id", stranger.account.id, []),
        ("vpc-peering-connection-id", waiting, [waiting]),
    ):
        seen = tenant("DescribeVpcPeeringConnections", Filters=[{"Name": name, "Values": [value]}])["VpcPeeringConnections"]
        assert [one["VpcPeeringConnectionId"] for one in seen] == sorted(found), name
