"""New accounts and what EC2 gives each of them in a region: the default VPC, its subnets and its default security group.

Everything that chance decides is drawn before the transaction and handed in, because a transaction's body may run twice.
Invariant: an account has at most one default VPC in a region (the UNIQUE key `default_of`), and either all that belongs to
it is there or nothing.
"""

import base64
from ipaddress import IPv4Network

import msgspec

from alto.api.call import Call
from alto.kit.world import Chance
from alto.model.accounts import AccessKey, Account
from alto.model.networks import AddressPool, Permission, SecurityGroup, Subnet, Vpc
from alto.plan.addresses import assignable
from alto.store.claims import PUBLIC_POOL
from alto.store.store import Reader, Tx

ID_DIGITS = 17

# "Default VPC components" in the VPC user guide: one /16, a /20 in each zone.
DEFAULT_VPC = IPv4Network("172.31.0.0/16")
SUBNET_PREFIX = 20

ACCOUNT_DIGITS = 12
KEY_BYTES = 10  # 16 characters of base32 behind "AKIA"
SECRET_BYTES = 30  # 40 characters of base64


class RegionIds(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of one region's beginnings; unused when the region has begun already."""

    vpc: str
    subnets: tuple[str, ...]
    group: str
    rules: tuple[str, str]


class AccountIds(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    access_key: str
    secret: str


def draw_id(chance: Chance, prefix: str) -> str:
    """ "vpc" -> "vpc-0123456789abcdef0" """
    return f"{prefix}-{chance.hex(ID_DIGITS)}"


def draw_region(chance: Chance, zones: int = 3) -> RegionIds:
    return RegionIds(
        vpc=draw_id(chance, "vpc"),
        subnets=tuple(draw_id(chance, "subnet") for _ in range(zones)),
        group=draw_id(chance, "sg"),
        rules=(draw_id(chance, "sgr"), draw_id(chance, "sgr")),
    )


def draw_account(chance: Chance) -> AccountIds:
    # Never a leading zero: spreadsheets and YAML drop it.
    number = 10 ** (ACCOUNT_DIGITS - 1) + int.from_bytes(chance.bytes(8)) % (9 * 10 ** (ACCOUNT_DIGITS - 1))
    return AccountIds(
        account=str(number),
        access_key="AKIA" + base64.b32encode(chance.bytes(KEY_BYTES)).decode(),
        # Amazon's have "+" and "/" too, which every second shell script and URL gets wrong.
        secret=base64.b64encode(chance.bytes(SECRET_BYTES), altchars=b"aZ").decode(),
    )


def create_account(tx: Tx, ids: AccountIds, name: str, now: float, *, operator: bool = False) -> tuple[Account, AccessKey]:
    """An empty account and its first key; call `ensure_region` for the regions it should begin in.

    Raises: AlreadyExists: the name is taken.
    """
    account = tx.put(Account(id=ids.account, name=name, operator=operator, created_at=now))
    key = tx.put(AccessKey(id=ids.access_key, account=account.id, secret=ids.secret, created_at=now))
    return account, key


def default_vpc(reader: Reader, account: str, region: str) -> Vpc | None:
    """None until `ensure_region` ran for them."""
    found = reader.where(Vpc, default_of=default_key(account, region), limit=1)
    return found[0] if found else None


def default_key(account: str, region: str) -> str:
    return f"{account}/{region}"


def ensure_region(tx: Tx, ids: RegionIds, account: str, region: str, zones: tuple[str, ...], public_pool: str) -> Vpc:
    """The account's default VPC in `region`, made with all that EC2 puts into it when it is not there. Idempotent."""
    ensure_public_pool(tx, public_pool)
    found = default_vpc(tx, account, region)
    if found is not None:
        return found
    vpc = tx.put(
        Vpc(id=ids.vpc, account=account, region=region, cidr=str(DEFAULT_VPC), default_of=default_key(account, region))
    )
    for id, zone, network in zip(ids.subnets, zones, DEFAULT_VPC.subnets(new_prefix=SUBNET_PREFIX), strict=False):
        tx.put(
            Subnet(
                id=id,
                account=account,
                region=region,
                vpc_id=vpc.id,
                cidr=str(network),
                zone=zone,
                default_for_zone=True,
                map_public_ip=True,
            )
        )
        tx.put(AddressPool(id=id, cidr=str(network), size=assignable(network)))
    tx.put(default_group(ids.group, ids.rules, account, region, vpc.id))
    return vpc


class RegionKeeper:
    """Sees to it, before the first call of an account in a region, that the region has begun for it."""

    def __init__(self) -> None:
        self._begun: set[tuple[str, str]] = set()

    async def ready(self, call: Call) -> None:
        key = (call.account, call.region)
        if key in self._begun:
            return
        if call.store.read(lambda reader: default_vpc(reader, *key)) is None:
            ids, settings = draw_region(call.world.chance), call.settings
            zones = settings.zones(call.region)
            await call.store.write(lambda tx: ensure_region(tx, ids, *key, zones, settings.public_pool))
        self._begun.add(key)


def ensure_public_pool(tx: Tx, cidr: str) -> None:
    """The pool that public addresses come from; one for the whole cloud. Idempotent."""
    if tx.find(AddressPool, PUBLIC_POOL) is None:
        tx.put(AddressPool(id=PUBLIC_POOL, cidr=cidr, size=assignable(IPv4Network(cidr))))


def default_group(id: str, rules: tuple[str, str], account: str, region: str, vpc_id: str) -> SecurityGroup:
    """In: everything from members of the group itself. Out: everything (VPC user guide, "Default security groups")."""
    inside = Permission(id=rules[0], egress=False, protocol="-1", from_port=-1, to_port=-1, group_id=id)
    outside = Permission(id=rules[1], egress=True, protocol="-1", from_port=-1, to_port=-1, cidr="0.0.0.0/0")
    return SecurityGroup(
        id=id,
        account=account,
        region=region,
        vpc_id=vpc_id,
        name="default",
        description="default VPC security group",
        permissions=(inside, outside),
    )
