"""Amazon's services that a gateway endpoint leads to, and the prefix list of each: what addresses a service has. Pure.

A list is no row: it follows from the region. Invariant: a list names what answers for the service here, and nothing does
yet, so the lists are empty: a route to one takes no packet anywhere, a rule that names one lets none through.
"""

import hashlib
from functools import lru_cache

from alto.model.acls import PrefixList

SERVICES = ("dynamodb", "s3")
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
