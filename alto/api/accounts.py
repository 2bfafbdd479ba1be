"""New accounts and what EC2 gives each of them in a region: a set of DHCP options, and the default VPC with all its parts.

Everything that chance decides is drawn before the transaction and handed in, because a transaction's body may run twice.
What those parts are is said in `plan/vpcs.py`. Invariant: an account has at most one default VPC in a region (the UNIQUE
key `default_of`), and either all that belongs to it is there or nothing.
"""

import base64
from collections.abc import Sequence
from ipaddress import IPv4Network

import msgspec
from msgspec.structs import replace

from alto.api.call import Call
from alto.kit.world import Chance
from alto.model.accounts import AccessKey, Account, AccountRegion
from alto.model.networks import AddressPool, Vpc
from alto.model.records import ID_DIGITS, ID_GAP
from alto.model.routing import InternetGateway
from alto.plan.addresses import assignable
from alto.plan.vpcs import (
    DEFAULT_RANGE,
    DEFAULT_VPC_IDS,
    SUBNET_IDS,
    Ids,
    amazon_dhcp,
    default_subnets,
    free_vni,
    vpc_parts,
    with_internet,
)
from alto.store.claims import PUBLIC_POOL
from alto.store.store import Reader, Tx

ACCOUNT_DIGITS = 12
KEY_BYTES = 10  # 16 characters of base32 behind "AKIA"
SECRET_BYTES = 30  # 40 characters of base64


class AccountIds(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    access_key: str
    secret: str


def draw_id(chance: Chance, prefix: str) -> str:
    """ "vpc" -> "vpc-0123456789abcdef0" """
    return f"{prefix}-{draw_ids(chance, 1)}"


def draw_ids(chance: Chance, count: int) -> str:
    """Digits for `count` ids (`plan/vpcs.py`, Ids)."""
    return chance.serials(count, ID_DIGITS, ID_GAP)


def draw_region(chance: Chance, zones: Sequence[str]) -> str:
    """Digits for all that `ensure_region` makes; unused when the region has begun already."""
    return draw_ids(chance, 1 + DEFAULT_VPC_IDS + len(zones) * SUBNET_IDS)


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
    """None until `ensure_region` ran for them, and when its owner deleted it."""
    found = reader.where(Vpc, default_of=region_key(account, region), limit=1)
    return found[0] if found else None


def region_key(account: str, region: str) -> str:
    return f"{account}/{region}"


def ensure_region(tx: Tx, digits: str, account: str, region: str, zones: tuple[str, ...], public_pool: str) -> None:
    """What EC2 gives an account in `region` to begin with: a set of DHCP options and the default VPC. Once: what the owner
    deleted of it stays deleted."""
    ensure_public_pool(tx, public_pool)
    if tx.find(AccountRegion, region_key(account, region)) is not None:
        return
    ids = Ids(digits)
    options = tx.put(amazon_dhcp(ids("dopt"), account, region))
    tx.put(AccountRegion(id=region_key(account, region), dhcp_options_id=options.id))
    if default_vpc(tx, account, region) is None:
        make_default_vpc(tx, ids, account, region, zones, options.id)


def make_default_vpc(tx: Tx, ids: Ids, account: str, region: str, zones: tuple[str, ...], dhcp_options_id: str) -> Vpc:
    """The account's default VPC with all that EC2 puts into it. Raises: AlreadyExists: there is one."""
    id = ids("vpc")
    vpc = tx.put(
        Vpc(
            id=id,
            account=account,
            region=region,
            cidr=str(DEFAULT_RANGE),
            vni=vni_for(tx, id),
            default_of=region_key(account, region),
            dhcp_options_id=dhcp_options_id,
        )
    )
    gateway = tx.put(InternetGateway(id=ids("igw"), account=account, region=region, vpc_id=vpc.id))
    parts = vpc_parts(vpc, ids)
    tx.put(with_internet(parts.main, gateway))
    tx.put(parts.group)
    associations = []
    for made in default_subnets(vpc, zones, ids):
        tx.put(made.subnet)
        tx.put(made.pool)
        associations.append(made.association)
    tx.put(replace(parts.acl, associations=tuple(associations)))
    return vpc


def vni_for(tx: Tx, vpc_id: str) -> int:
    return free_vni(vpc_id, lambda number: bool(tx.where(Vpc, vni=number, limit=1)))


class RegionKeeper:
    """Sees to it, before the first call of an account in a region, that the region has begun for it."""

    def __init__(self) -> None:
        self._begun: set[tuple[str, str]] = set()

    async def ready(self, call: Call) -> None:
        key = (call.account, call.region)
        if key in self._begun:
            return
        if call.store.read(lambda reader: reader.find(AccountRegion, region_key(*key))) is None:
            settings = call.settings
            zones = settings.zones(call.region)
            digits = draw_region(call.world.chance, zones)
            await call.store.write(lambda tx: ensure_region(tx, digits, *key, zones, settings.public_pool))
        self._begun.add(key)


def ensure_public_pool(tx: Tx, cidr: str) -> None:
    """The pool that public addresses come from; one for the whole cloud. Idempotent."""
    if tx.find(AddressPool, PUBLIC_POOL) is None:
        tx.put(AddressPool(id=PUBLIC_POOL, cidr=cidr, size=assignable(IPv4Network(cidr)), in_turn=True))
