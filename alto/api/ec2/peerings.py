"""VPC peering: ask for a connection, accept, reject, end and describe it.

The row belongs to who asked; who was asked finds it too and may accept or reject it. Not here: which packets pass (both
sides' route tables and the host's plan), and what time makes of it (`plan/peerings.py`). Invariant: an active connection joins
two VPCs whose ranges do not meet, and is the only one that does.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import all_peerings, check_id, find_peering, is_accepter, is_requester, owned
from alto.api.ec2.paging import check_page, listing, page_of_list
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.wire.xml import timestamp
from alto.model.errors import NotFound, Refused
from alto.model.networks import Vpc
from alto.model.records import Tags
from alto.model.routing import PeeringState, VpcPeering
from alto.plan.peerings import EXPIRES_S, is_visible, peering_state
from alto.plan.ranges import overlap
from alto.plan.vpcs import ranges, ranges_v6
from alto.store.store import Reader, Tx

_SENTENCES: Mapping[PeeringState, str] = {
    PeeringState.ACTIVE: "Active",
    PeeringState.REJECTED: "Inactive",
    PeeringState.EXPIRED: "Expired",
    PeeringState.FAILED: "Failed due to incorrect VPC-ID, Account ID, or overlapping CIDR range",
    PeeringState.DELETED: "Deleted by {by}",
}


class _Seen(msgspec.Struct, frozen=True):
    """A connection as one of its two accounts sees it now."""

    peering: VpcPeering
    state: PeeringState
    requester: Vpc | None
    accepter: Vpc | None
    tags: Tags


def _seen(reader: Reader, call: Call, peering: VpcPeering) -> _Seen:
    state = peering_state(peering, call.world.clock.now())
    # Who only asked learns nothing of the other's VPC before the other agreed.
    knows = state is PeeringState.ACTIVE or call.account == peering.accepter_account
    return _Seen(
        peering,
        state,
        reader.find(Vpc, peering.vpc_id),
        reader.find(Vpc, peering.accepter_vpc_id) if knows else None,
        peering.tags if is_requester(call, peering) else peering.accepter_tags,
    )


_FILTERS: Filters[_Seen] = {
    "accepter-vpc-info.cidr-block": lambda seen: ranges(seen.accepter) if seen.accepter else None,
    "accepter-vpc-info.owner-id": lambda seen: seen.peering.accepter_account,
    "accepter-vpc-info.vpc-id": lambda seen: seen.peering.accepter_vpc_id,
    "expiration-time": lambda seen: timestamp(seen.peering.expires_at),
    "requester-vpc-info.cidr-block": lambda seen: ranges(seen.requester) if seen.requester else None,
    "requester-vpc-info.owner-id": lambda seen: seen.peering.account,
    "requester-vpc-info.vpc-id": lambda seen: seen.peering.vpc_id,
    "status-code": lambda seen: seen.state,
    "status-message": lambda seen: _sentence(seen),
    "vpc-peering-connection-id": lambda seen: seen.peering.id,
}


def _sentence(seen: _Seen) -> str:
    if seen.state is PeeringState.PENDING:
        return f"Pending Acceptance by {seen.peering.accepter_account}"
    return _SENTENCES.get(seen.state, "").format(by=seen.peering.message)


class DescribeRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    vpc_peering_connection_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_vpc_peering_connections(call: Call, request: DescribeRequest) -> dict[str, object]:
    ids = request.vpc_peering_connection_ids
    check_page(request.max_results, ids, ids_parameter="vpcPeeringConnectionIdSet")
    matches = matcher(request.filters, _FILTERS)

    def body(reader: Reader) -> list[_Seen]:
        found = [find_peering(reader, call, id) for id in sorted(set(ids))] if ids else all_peerings(reader, call)
        return [seen for seen in (_seen(reader, call, one) for one in found) if matches(seen)]

    page = page_of_list(
        call.store.read(body),
        lambda seen: seen.peering.id,
        scope=VpcPeering.KIND,
        max_results=request.max_results,
        next_token=request.next_token,
    )
    return listing("VpcPeeringConnections", [_shown(seen) for seen in page.items], page.next_token)


def _shown(seen: _Seen) -> dict[str, Any]:
    peering = seen.peering
    return {
        "VpcPeeringConnectionId": peering.id,
        "Status": {"Code": seen.state, "Message": _sentence(seen)},
        "ExpirationTime": peering.expires_at if seen.state is PeeringState.PENDING else None,
        "RequesterVpcInfo": _side(seen.requester, peering.account, peering.region, peering.vpc_id, peering.dns_from_requester),
        "AccepterVpcInfo": _side(
            seen.accepter,
            peering.accepter_account,
            peering.accepter_region,
            peering.accepter_vpc_id,
            peering.dns_from_accepter,
        ),
        "Tags": shown(seen.tags),
    }


def _side(vpc: Vpc | None, account: str, region: str, vpc_id: str, dns: bool) -> dict[str, object]:
    side: dict[str, object] = {"OwnerId": account, "Region": region, "VpcId": vpc_id, "PeeringOptions": _options(dns)}
    if vpc is not None:
        side |= {
            "CidrBlock": vpc.cidr,
            "CidrBlockSet": [{"CidrBlock": cidr} for cidr in ranges(vpc)],
            "Ipv6CidrBlockSet": [{"Ipv6CidrBlock": cidr} for cidr in ranges_v6(vpc)],
        }
    return side


def _options(dns: bool) -> dict[str, bool]:
    return {
        "AllowDnsResolutionFromRemoteVpc": dns,
        "AllowEgressFromLocalClassicLinkToRemoteVpc": False,
        "AllowEgressFromLocalVpcToRemoteClassicLink": False,
    }


class CreateRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    peer_vpc_id: str | None = None
    peer_owner_id: str | None = None
    peer_region: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_vpc_peering_connection(call: Call, request: CreateRequest) -> dict[str, object]:
    if request.peer_vpc_id is None:
        raise Refused("MissingParameter", "The request must contain the parameter peerVpcId")
    peer_id, peer_account = request.peer_vpc_id, request.peer_owner_id or call.account
    peer_region = request.peer_region or call.region
    if peer_region not in call.settings.regions:
        raise Refused("InvalidParameterValue", f"Value ({peer_region[:80]}) for parameter peerRegion is invalid.")
    tags = tags_for(request.tag_specifications, "vpc-peering-connection")["vpc-peering-connection"]
    id, now = draw_id(call.world.chance, "pcx"), call.world.clock.now()

    def body(tx: Tx) -> _Seen:
        vpc = owned(tx, call, Vpc, request.vpc_id)
        check_id(Vpc.KIND, peer_id)
        peer = tx.find(Vpc, peer_id)
        if peer is not None and (peer.account, peer.region) != (peer_account, peer_region):
            peer = None
        if peer is None and peer_account == call.account:
            raise NotFound(Vpc.KIND, peer_id)
        if peer_id == vpc.id:
            raise Refused("InvalidParameterValue", f"The VPC '{vpc.id}' cannot be peered with itself")
        for one in tx.where(VpcPeering, vpc_id=vpc.id):
            if not any(is_visible(one, account, now) for account in (one.account, one.accepter_account)):
                tx.delete(VpcPeering, one.id)
            elif one.accepter_vpc_id == peer_id and _is_open(one, now):
                return _seen(tx, call, one)  # as EC2: asking again makes no second one
        # EC2 makes the row all the same and lets it fail, which also tells nobody whose VPC there is elsewhere.
        failed = peer is None or overlap(ranges(vpc), ranges(peer))
        made = tx.put(
            VpcPeering(
                id=id,
                account=call.account,
                region=call.region,
                vpc_id=vpc.id,
                accepter_account=peer_account,
                accepter_region=peer_region,
                accepter_vpc_id=peer_id,
                state=PeeringState.FAILED if failed else PeeringState.PENDING,
                expires_at=now + EXPIRES_S,
                ended_at=now if failed else None,
                tags=tags,
            )
        )
        return _seen(tx, call, made)

    seen = await call.store.write(body)
    shape = _shown(seen)
    if seen.peering.id == id:
        # The answer to the request says nothing of its fate yet, nor of the other VPC.
        shape["Status"] = {"Code": "initiating-request", "Message": f"Initiating Request to {peer_account}"}
    return {"VpcPeeringConnection": shape}


def _is_open(peering: VpcPeering, now: float) -> bool:
    return peering_state(peering, now) in (PeeringState.PENDING, PeeringState.ACTIVE)


class PeeringIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_peering_connection_id: str


async def accept_vpc_peering_connection(call: Call, request: PeeringIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> _Seen:
        peering = _asked(tx, call, request.vpc_peering_connection_id, "accept")
        pair = {peering.vpc_id, peering.accepter_vpc_id}
        of_one = (*tx.where(VpcPeering, vpc_id=peering.vpc_id), *tx.where(VpcPeering, accepter_vpc_id=peering.vpc_id))
        if any(one.state is PeeringState.ACTIVE and {one.vpc_id, one.accepter_vpc_id} == pair for one in of_one):
            raise Refused(
                "VpcPeeringConnectionAlreadyExists",
                f"The vpc peering connection identified by {peering.id} already exists.",
            )
        one, other = tx.find(Vpc, peering.vpc_id), tx.find(Vpc, peering.accepter_vpc_id)
        if one is None or other is None or overlap(ranges(one), ranges(other)):
            raise Refused("OperationNotPermitted", f"The VPCs of {peering.id} have ranges that meet: they cannot be peered")
        return _seen(tx, call, tx.put(replace(peering, state=PeeringState.ACTIVE)))

    return {"VpcPeeringConnection": _shown(await call.store.write(body))}


async def reject_vpc_peering_connection(call: Call, request: PeeringIdRequest) -> dict[str, object]:
    now = call.world.clock.now()

    def body(tx: Tx) -> None:
        peering = _asked(tx, call, request.vpc_peering_connection_id, "reject")
        tx.put(replace(peering, state=PeeringState.REJECTED, ended_at=now))

    await call.store.write(body)
    return {"Return": True}


def _asked(tx: Tx, call: Call, id: str, what: str) -> VpcPeering:
    """A connection that waits for the caller's answer. Raises: Refused, NotFound."""
    peering = find_peering(tx, call, id)
    if not is_accepter(call, peering):
        if call.account != peering.accepter_account:
            raise Refused("OperationNotPermitted", f"User {call.account} cannot {what} peering {peering.id}")
        must = "accepted" if what == "accept" else "accepted or rejected"
        raise Refused(
            "OperationNotPermitted",
            f"Incorrect region ({call.region}) specified for this request. VPC peering connection {peering.id} must be {must} "
            f"in region {peering.accepter_region}",
        )
    state = peering_state(peering, call.world.clock.now())
    if state is not PeeringState.PENDING:
        raise Refused("InvalidStateTransition", f"Invalid state transition for {peering.id}, attempted to {what} in {state}")
    return peering


async def delete_vpc_peering_connection(call: Call, request: PeeringIdRequest) -> dict[str, object]:
    now = call.world.clock.now()

    def body(tx: Tx) -> None:
        peering = find_peering(tx, call, request.vpc_peering_connection_id)
        state = peering_state(peering, now)
        pending_of_mine = state is PeeringState.PENDING and is_requester(call, peering)
        if state is not PeeringState.ACTIVE and not pending_of_mine:
            raise Refused(
                "InvalidStateTransition",
                # Terraform takes this sentence for "it is gone".
                f"Invalid state transition for {peering.id}, attempted to transition from {state} to deleting",
            )
        tx.put(replace(peering, state=PeeringState.DELETED, message=call.account, ended_at=now))

    await call.store.write(body)
    return {"Return": True}


class PeeringOptions(msgspec.Struct, frozen=True, rename="pascal"):
    allow_dns_resolution_from_remote_vpc: bool | None = None
    allow_egress_from_local_classic_link_to_remote_vpc: bool | None = None
    allow_egress_from_local_vpc_to_remote_classic_link: bool | None = None


class ModifyOptionsRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_peering_connection_id: str
    accepter_peering_connection_options: PeeringOptions | None = None
    requester_peering_connection_options: PeeringOptions | None = None


async def modify_vpc_peering_connection_options(call: Call, request: ModifyOptionsRequest) -> dict[str, object]:
    """The option on DNS is about public names, and an instance's public name is its address here: there is nothing that
    would resolve otherwise, so it is kept for who asked for it."""
    requester, accepter = request.requester_peering_connection_options, request.accepter_peering_connection_options
    for options in (requester, accepter):
        if options is not None and (
            options.allow_egress_from_local_classic_link_to_remote_vpc
            or options.allow_egress_from_local_vpc_to_remote_classic_link
        ):
            raise Refused("InvalidParameterValue", "EC2-Classic is gone, and ClassicLink with it: nothing can be linked")

    def body(tx: Tx) -> VpcPeering:
        peering = find_peering(tx, call, request.vpc_peering_connection_id)
        if peering.state is not PeeringState.ACTIVE:
            raise Refused(
                "OperationNotPermitted",
                f"Peering {peering.id} is not active. Peering options can be added only to active peerings.",
            )
        for options, is_own_side, side in (
            (requester, is_requester(call, peering), "requester"),
            (accepter, is_accepter(call, peering), "accepter"),
        ):
            if options is not None and not is_own_side:
                raise Refused("OperationNotPermitted", f"The {side}'s options of {peering.id} are set by the {side}")
        if any(options is not None and options.allow_dns_resolution_from_remote_vpc for options in (requester, accepter)):
            _check_dns(tx, peering)
        new = replace(
            peering,
            dns_from_requester=_chosen(requester, peering.dns_from_requester),
            dns_from_accepter=_chosen(accepter, peering.dns_from_accepter),
        )
        return tx.put(new)

    peering = await call.store.write(body)
    answer: dict[str, object] = {}
    if requester is not None:
        answer["RequesterPeeringConnectionOptions"] = _options(peering.dns_from_requester)
    if accepter is not None:
        answer["AccepterPeeringConnectionOptions"] = _options(peering.dns_from_accepter)
    return answer


def _check_dns(tx: Tx, peering: VpcPeering) -> None:
    for vpc in (tx.find(Vpc, peering.vpc_id), tx.find(Vpc, peering.accepter_vpc_id)):
        if vpc is not None and not (vpc.dns_support and vpc.dns_hostnames):
            raise Refused(
                "InvalidVpcPeeringConnectionState.DnsHostnamesDisabled",
                "To enable DNS hostname resolution for the VPC peering connection, DNS hostname support must be enabled for "
                "the VPCs.",
            )


def _chosen(options: PeeringOptions | None, present: bool) -> bool:
    asked = options.allow_dns_resolution_from_remote_vpc if options is not None else None
    return present if asked is None else asked


OPERATIONS: Mapping[str, Operation] = {
    "AcceptVpcPeeringConnection": Operation(PeeringIdRequest, accept_vpc_peering_connection),
    "CreateVpcPeeringConnection": Operation(CreateRequest, create_vpc_peering_connection),
    "DeleteVpcPeeringConnection": Operation(PeeringIdRequest, delete_vpc_peering_connection),
    "DescribeVpcPeeringConnections": Operation(DescribeRequest, describe_vpc_peering_connections),
    "ModifyVpcPeeringConnectionOptions": Operation(ModifyOptionsRequest, modify_vpc_peering_connection_options),
    "RejectVpcPeeringConnection": Operation(PeeringIdRequest, reject_vpc_peering_connection),
}
