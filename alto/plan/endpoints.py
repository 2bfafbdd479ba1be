"""Services that VPC endpoints lead to. Pure.

A gateway endpoint leads to one of Amazon's, by the prefix list of its addresses. A list is no row: it follows from the region.
Invariant: a list names what answers for the service here, and nothing does yet, so the lists are empty: a route to one takes
no packet anywhere, a rule that names one lets none through.

An interface endpoint leads to one that this cloud has itself: its API. Each has names in the VPC, of its own and perhaps the
service's (`names_of`).
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from alto.model.acls import PrefixList
from alto.model.networks import Vpc
from alto.model.routing import EndpointType, VpcEndpoint

SERVICES = ("dynamodb", "s3")
INTERFACE_SERVICES = ("ec2", "sts")
AMAZON = "AWS"  # whose lists these are, as EC2 shows it


def service_name(region: str, service: str) -> str:
    return f"com.amazonaws.{region}.{service}"


@lru_cache(maxsize=64)
def amazons_lists(region: str) -> tuple[PrefixList, ...]:
    """One for each service, by id."""
    names = [service_name(region, service) for service in SERVICES]
    found = [
        PrefixList(
            # Eight digits, as Amazon's own have: those of customers have seventeen.
            id="pl-" + hashlib.blake2s(name.encode(), digest_size=4).hexdigest(),
            account=AMAZON,
            region=region,
            name=name,
            max_entries=1,
        )
        for name in names
    ]
    return tuple(sorted(found, key=lambda one: one.id))


def amazons_list(region: str, id: str) -> PrefixList | None:
    return next((one for one in amazons_lists(region) if one.id == id), None)


def own_service(region: str, name: str) -> str | None:
    """ "ec2" of com.amazonaws.REGION.ec2, if interface endpoints lead to it."""
    return next((service for service in INTERFACE_SERVICES if service_name(region, service) == name), None)


def private_name(region: str, service: str) -> str:
    """What clients call a service unless they are told otherwise."""
    return f"{service}.{region}.amazonaws.com"


def dns_names(endpoint: VpcEndpoint) -> dict[str, tuple[str, ...]]:
    """The names of an interface endpoint alone -> its addresses: of all of it, and of each zone."""
    service = endpoint.service_name.rpartition(".")[2]
    mark = hashlib.blake2s(endpoint.id.encode(), digest_size=4).hexdigest()
    end = f"{service}.{endpoint.region}.vpce.amazonaws.com"
    names = {f"{endpoint.id}-{mark}.{end}": tuple(one.private_ip for one in endpoint.interfaces)}
    names |= {f"{endpoint.id}-{mark}-{one.zone}.{end}": (one.private_ip,) for one in endpoint.interfaces}
    return names if endpoint.interfaces else {}


def names_of(vpc: Vpc, endpoints: Iterable[VpcEndpoint]) -> dict[str, tuple[str, ...]]:
    """All that the VPC's resolver knows of endpoints. The services' own names need both of the VPC's attributes for DNS, which
    may have been switched off since."""
    found: dict[str, tuple[str, ...]] = {}
    for one in endpoints:
        service = own_service(one.region, one.service_name)
        if one.type is EndpointType.INTERFACE and one.interfaces and service is not None:
            found |= dns_names(one)
            if one.private_dns and vpc.dns_support and vpc.dns_hostnames:
                found[private_name(one.region, service)] = tuple(each.private_ip for each in one.interfaces)
    return found
