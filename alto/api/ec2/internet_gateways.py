"""Internet gateways, and those for IPv6 that only let out: create, describe, attach, detach, delete.

Not here: which subnet uses one (its route table says so, `routes.py`). Invariant: a VPC has at most one internet gateway
attached, and a gateway at most one VPC.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from alto.api.accounts import draw_id
from alto.api.call import Call, Operation
from alto.api.ec2.filters import Filter, Filters, matcher
from alto.api.ec2.ids import check_vpc_id, owned, page_of_own
from alto.api.ec2.paging import check_page, listing
from alto.api.ec2.tags import TagSpecification, shown, tags_for
from alto.api.ec2.tokens import check_token, known_result, remember_result
from alto.model.errors import Refused
from alto.model.networks import NetworkInterface, Vpc
from alto.model.routing import EgressOnlyInternetGateway, InternetGateway, NatGateway
from alto.store.store import Reader, Tx

ATTACHED = "available"  # sic: "attached" is the word of the egress-only ones

_FILTERS: Filters[InternetGateway] = {
    "attachment.state": lambda gateway: ATTACHED if gateway.vpc_id else None,
    "attachment.vpc-id": lambda gateway: gateway.vpc_id,
    "internet-gateway-id": lambda gateway: gateway.id,
    "owner-id": lambda gateway: gateway.account,
}


class DescribeInternetGatewaysRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    internet_gateway_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_internet_gateways(call: Call, request: DescribeInternetGatewaysRequest) -> dict[str, object]:
    ids = request.internet_gateway_ids
    check_page(request.max_results, ids, ids_parameter="internetGatewayIdSet")
    matches = matcher(request.filters, _FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(reader, call, InternetGateway, ids, matches, request.max_results, request.next_token)
    )
    return listing("InternetGateways", [_shown(gateway) for gateway in page.items], page.next_token)


def _shown(gateway: InternetGateway) -> dict[str, object]:
    return {
        "InternetGatewayId": gateway.id,
        "OwnerId": gateway.account,
        "Attachments": [{"VpcId": gateway.vpc_id, "State": ATTACHED}] if gateway.vpc_id else [],
        "Tags": shown(gateway.tags),
    }


class CreateInternetGatewayRequest(msgspec.Struct, frozen=True, rename="pascal"):
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_internet_gateway(call: Call, request: CreateInternetGatewayRequest) -> dict[str, object]:
    tags = tags_for(request.tag_specifications, "internet-gateway")["internet-gateway"]
    made = InternetGateway(id=draw_id(call.world.chance, "igw"), account=call.account, region=call.region, tags=tags)
    return {"InternetGateway": _shown(await call.store.write(lambda tx: tx.put(made)))}


class AttachmentRequest(msgspec.Struct, frozen=True, rename="pascal"):
    internet_gateway_id: str
    vpc_id: str


async def attach_internet_gateway(call: Call, request: AttachmentRequest) -> dict[str, object]:
    check_vpc_id(request.vpc_id)

    def body(tx: Tx) -> None:
        gateway = owned(tx, call, InternetGateway, request.internet_gateway_id)
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if gateway.vpc_id is not None:
            raise Refused(
                "Resource.AlreadyAssociated", f"resource {gateway.id} is already attached to network {gateway.vpc_id}"
            )
        if tx.where(InternetGateway, vpc_id=vpc.id, limit=1):
            raise Refused("InvalidParameterValue", f"Network {vpc.id} already has an internet gateway attached")
        tx.put(replace(gateway, vpc_id=vpc.id))

    await call.store.write(body)
    return {}


async def detach_internet_gateway(call: Call, request: AttachmentRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        gateway = owned(tx, call, InternetGateway, request.internet_gateway_id)
        vpc = owned(tx, call, Vpc, request.vpc_id)
        if gateway.vpc_id != vpc.id:
            raise Refused("Gateway.NotAttached", f"resource {gateway.id} is not attached to network {vpc.id}")
        if _has_public_addresses(tx, vpc):
            raise Refused(
                "DependencyViolation",
                f"Network {vpc.id} has some mapped public address(es). "
                "Please unmap those public address(es) before detaching the gateway.",
            )
        tx.put(replace(gateway, vpc_id=None))

    await call.store.write(body)
    return {}


def _has_public_addresses(reader: Reader, vpc: Vpc) -> bool:
    if any(one.public and one.holds for one in reader.where(NatGateway, vpc_id=vpc.id)):
        return True
    return any(one.public_ip is not None for one in reader.where(NetworkInterface, vpc_id=vpc.id))


class InternetGatewayIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    internet_gateway_id: str


async def delete_internet_gateway(call: Call, request: InternetGatewayIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        gateway = owned(tx, call, InternetGateway, request.internet_gateway_id)
        if gateway.vpc_id is not None:
            raise Refused("DependencyViolation", f"The internetGateway '{gateway.id}' has dependencies and cannot be deleted.")
        tx.delete(InternetGateway, gateway.id)

    await call.store.write(body)
    return {}


_EGRESS_ONLY_FILTERS: Filters[EgressOnlyInternetGateway] = {}


class DescribeEgressOnlyRequest(msgspec.Struct, frozen=True, rename="pascal"):
    filters: tuple[Filter, ...] = ()
    egress_only_internet_gateway_ids: tuple[str, ...] = ()
    max_results: int | None = None
    next_token: str | None = None


async def describe_egress_only_internet_gateways(call: Call, request: DescribeEgressOnlyRequest) -> dict[str, object]:
    ids = request.egress_only_internet_gateway_ids
    check_page(request.max_results, ids, high=255, ids_parameter="egressOnlyInternetGatewayIdSet")
    matches = matcher(request.filters, _EGRESS_ONLY_FILTERS)
    page = call.store.read(
        lambda reader: page_of_own(
            reader, call, EgressOnlyInternetGateway, ids, matches, request.max_results, request.next_token
        )
    )
    return listing("EgressOnlyInternetGateways", [_shown_egress_only(gateway) for gateway in page.items], page.next_token)


def _shown_egress_only(gateway: EgressOnlyInternetGateway) -> dict[str, object]:
    return {
        "EgressOnlyInternetGatewayId": gateway.id,
        "Attachments": [{"VpcId": gateway.vpc_id, "State": "attached"}],
        "Tags": shown(gateway.tags),
    }


class CreateEgressOnlyRequest(msgspec.Struct, frozen=True, rename="pascal"):
    vpc_id: str
    client_token: str | None = None
    tag_specifications: tuple[TagSpecification, ...] = ()


async def create_egress_only_internet_gateway(call: Call, request: CreateEgressOnlyRequest) -> dict[str, object]:
    check_token(request.client_token)
    tags = tags_for(request.tag_specifications, "egress-only-internet-gateway")["egress-only-internet-gateway"]
    id, now = draw_id(call.world.chance, "eigw"), call.world.clock.now()

    def body(tx: Tx) -> EgressOnlyInternetGateway:
        known = known_result(tx, call, request.client_token)
        if known is not None:
            return owned(tx, call, EgressOnlyInternetGateway, known)
        vpc = owned(tx, call, Vpc, request.vpc_id)
        remember_result(tx, call, request.client_token, id, now)
        return tx.put(EgressOnlyInternetGateway(id=id, account=call.account, region=call.region, vpc_id=vpc.id, tags=tags))

    made = _shown_egress_only(await call.store.write(body))
    return {"EgressOnlyInternetGateway": made, "ClientToken": request.client_token}


class EgressOnlyIdRequest(msgspec.Struct, frozen=True, rename="pascal"):
    egress_only_internet_gateway_id: str


async def delete_egress_only_internet_gateway(call: Call, request: EgressOnlyIdRequest) -> dict[str, object]:
    def body(tx: Tx) -> None:
        gateway = owned(tx, call, EgressOnlyInternetGateway, request.egress_only_internet_gateway_id)
        tx.delete(EgressOnlyInternetGateway, gateway.id)

    await call.store.write(body)
    return {"ReturnCode": True}


OPERATIONS: Mapping[str, Operation] = {
    "AttachInternetGateway": Operation(AttachmentRequest, attach_internet_gateway),
    "CreateEgressOnlyInternetGateway": Operation(CreateEgressOnlyRequest, create_egress_only_internet_gateway),
    "CreateInternetGateway": Operation(CreateInternetGatewayRequest, create_internet_gateway),
    "DeleteEgressOnlyInternetGateway": Operation(EgressOnlyIdRequest, delete_egress_only_internet_gateway),
    "DeleteInternetGateway": Operation(InternetGatewayIdRequest, delete_internet_gateway),
    "DescribeEgressOnlyInternetGateways": Operation(DescribeEgressOnlyRequest, describe_egress_only_internet_gateways),
    "DescribeInternetGateways": Operation(DescribeInternetGatewaysRequest, describe_internet_gateways),
    "DetachInternetGateway": Operation(AttachmentRequest, detach_internet_gateway),
}
