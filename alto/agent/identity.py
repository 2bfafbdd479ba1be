"""Which host of which cloud this machine is: made when it joins, kept in its state folder, used ever after.

The key is made here and never leaves; it is on the disk before the cloud hears of it, so that an agent that dies while it
joins asks again with the same key and gets the same host. The invariant: an identity is never written over by another; it is
given up only where the cloud itself says that it is worth nothing any more, and a new invitation is at hand.
"""

from pathlib import Path

import msgspec

from alto.agent.link import HttpsLink, introduction
from alto.kit.certificates import fingerprint, new_key, new_request
from alto.kit.world import World
from alto.model.errors import AltoError, Refused
from alto.model.joining import Invitation, Join, Joined

IDENTITY, CERTIFICATE, KEY, JOINING = "host.json", "host.pem", "host.key", "joining.json"


class HostIdentity(msgspec.Struct, frozen=True, kw_only=True):
    cloud_id: str
    host_id: str
    name: str
    url: str
    authority: str  # PEM
    public_pool: str
    token_id: str


class _Joining(msgspec.Struct, frozen=True, kw_only=True):
    """Which token the key was made for."""

    token_id: str


def find_identity(world: World, folder: Path) -> HostIdentity | None:
    try:
        return msgspec.json.decode(world.files.read(folder / IDENTITY), type=HostIdentity)
    except FileNotFoundError:
        return None


def link_of(world: World, folder: Path, identity: HostIdentity) -> HttpsLink:
    return HttpsLink(
        world.net,
        identity.url,
        cloud_id=identity.cloud_id,
        authority=identity.authority,
        certificate=(str(folder / CERTIFICATE), str(folder / KEY)),
    )


async def become(
    world: World, folder: Path, *, url: str | None, invitation: Invitation | None, name: str, kind: str, machine: str
) -> HostIdentity:
    """The identity of this folder: the one it has, else the one that the invitation gives.

    Raises: Refused: the cloud says no, or there is neither; OSError, TimeoutError: it cannot be reached (only a first joining
    asks it).
    """
    known = find_identity(world, folder)
    if known is not None:
        if invitation is not None and invitation.cloud_id != known.cloud_id:
            raise Refused(
                "OtherCloud",
                f"This folder is host {known.name} of cloud {known.cloud_id}, and the token is of cloud {invitation.cloud_id}. "
                "Give another folder with --state, or take this host away first: alto agent --down",
            )
        if url is not None and url != known.url:
            # The same cloud at another address: its authority proves it, whatever the address.
            known = msgspec.structs.replace(known, url=url)
            world.files.write(folder / IDENTITY, msgspec.json.encode(known))
        if invitation is None or invitation.token_id == known.token_id or not await _is_worthless(world, folder, known):
            return known
    if url is None or invitation is None:
        raise Refused(
            "NotJoined",
            "This machine is no host yet. On the cloud's machine: alto host token create; then here: alto agent --join URL "
            "--token TOKEN",
        )
    return await _join(world, folder, url, invitation, name=name, kind=kind, machine=machine)


async def _is_worthless(world: World, folder: Path, known: HostIdentity) -> bool:
    """Whether the cloud itself says that this identity is no host any more."""
    link = link_of(world, folder, known)
    try:
        return not await link.known()
    except Refused as refused:
        return refused.aws_code == "UnknownHost"
    except (OSError, TimeoutError):
        return False
    finally:
        link.close()


async def _join(
    world: World, folder: Path, url: str, invitation: Invitation, *, name: str, kind: str, machine: str
) -> HostIdentity:
    found = await introduction(world.net, url)
    if fingerprint(found.authority) != invitation.authority:
        what = f"cloud {found.cloud_id}" if found.cloud_id != invitation.cloud_id else "another authority under the same name"
        raise Refused(
            "WrongCloud",
            f"At {url} answers {what}, and the token is of cloud {invitation.cloud_id}. It was told nothing. Check --join, "
            "or make a token on the cloud that answers there",
        )
    key = _key_for(world, folder, invitation.token_id)
    link = HttpsLink(world.net, url, cloud_id=invitation.cloud_id, authority=found.authority)
    join = Join(
        token_id=invitation.token_id, secret=invitation.secret, request=new_request(key), name=name, kind=kind, machine=machine
    )
    try:
        answer = await link.call("join", join)
    finally:
        link.close()
    try:
        joined = msgspec.json.decode(answer.body, type=Joined)
    except msgspec.MsgspecError as error:
        raise AltoError(f"The cloud's answer is not understood: {error}") from error
    identity = HostIdentity(
        cloud_id=joined.cloud_id,
        host_id=joined.host_id,
        name=joined.name,
        url=url,
        authority=found.authority,
        public_pool=joined.public_pool,
        token_id=invitation.token_id,
    )
    world.files.write(folder / CERTIFICATE, joined.certificate.encode())
    # Last: where it is, everything else is.
    world.files.write(folder / IDENTITY, msgspec.json.encode(identity))
    world.files.remove(folder / JOINING)
    return identity


def _key_for(world: World, folder: Path, token_id: str) -> str:
    """The key that already asked with this token, when its answer was lost; else a new one."""
    files = world.files
    try:
        joining = msgspec.json.decode(files.read(folder / JOINING), type=_Joining)
        if joining.token_id == token_id:
            return files.read(folder / KEY).decode()
    except (FileNotFoundError, msgspec.MsgspecError):
        pass
    key = new_key()
    # An identity that was given up goes first: its certificate would not fit the new key.
    for name in (IDENTITY, JOINING):
        files.remove(folder / name)
    files.write(folder / KEY, key.encode())
    files.write(folder / JOINING, msgspec.json.encode(_Joining(token_id=token_id)))
    return key
