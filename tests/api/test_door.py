"""The hosts' door. Goal: a machine with an invitation becomes a host over TLS and speaks for that host alone; every other
way in is refused, with a sentence. Method: a real door on a loopback socket, real certificates, the agent's own joining and
link; nothing between them is pretended."""

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alto.agent.identity import HostIdentity, become, link_of
from alto.api.alto.hosts import CreateToken, HostOperations, Remove, Way
from alto.api.call import Call, Settings
from alto.api.hosts.authority import Authority
from alto.api.hosts.door import HostsDoor
from alto.api.hosts.session import HostSessions
from alto.control.hosts import Hosts
from alto.daemons.server import serve_http
from alto.drivers.image.images import LocalImages
from alto.drivers.image.remote import RemoteImages
from alto.drivers.image.shipping import Shipping
from alto.kit.world import real_world
from alto.model.errors import Impossible, Refused
from alto.model.hosts import Capabilities, Host
from alto.model.joining import BadInvitation, Invitation, invitation_text, read_invitation
from alto.model.sessions import Hello, Origin, Reports, SessionLost
from alto.store.sqlite import MemoryDisk, SqliteStore
from tests.plan.test_instances import instance

WORLD = real_world()


class Cloud:
    """One cloud with its door open."""

    def __init__(self, folder: Path, cloud_id: str) -> None:
        self.settings = Settings(cloud_id=cloud_id, regions=("us-east-1",))
        self.store = SqliteStore.inline(MemoryDisk(), pause=lambda: asyncio.sleep(0))
        self.sessions = HostSessions(WORLD, self.store, cloud_id)
        self.folder = folder / cloud_id
        self.authority = Authority(WORLD, folder / cloud_id, cloud_id)
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.url = f"https://127.0.0.1:{self.sock.getsockname()[1]}"
        self.operations = HostOperations(self.sessions, Way(self.url, self.authority.fingerprint))
        self.open = asyncio.Event()

    async def serve(self) -> None:
        pool = self.settings.public_pool
        cloud_id = self.settings.cloud_id
        images = Shipping(WORLD, LocalImages(WORLD, self.folder / "images"))
        door = HostsDoor(
            WORLD, self.store, self.sessions, self.authority, _nothing, images, cloud_id=cloud_id, public_pool=pool
        )
        await serve_http(WORLD, door, self.sock, self.open.set, tls=self.authority.context())

    @property
    def call(self) -> Call:
        return Call(
            account="1",
            operator=True,
            access_key_id="AKIA",
            region="us-east-1",
            request_id="r",
            operation="",
            digest="",
            world=WORLD,
            store=self.store,
            settings=self.settings,
        )

    async def invite(self, **more: Any) -> Invitation:
        return read_invitation((await self.operations.create_token(self.call, CreateToken(**more)))["token"])


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only hosts come here")


def story(folder: Path, body: Callable[[Cloud, Cloud], Awaitable[None]]) -> None:
    """`body` with two clouds."""

    async def run() -> None:
        clouds = [Cloud(folder, name) for name in ("c-one", "c-two")]
        serving = [asyncio.create_task(cloud.serve()) for cloud in clouds]
        for cloud in clouds:
            await cloud.open.wait()
        try:
            async with asyncio.timeout(30):
                await body(clouds[0], clouds[1])
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    asyncio.run(run())


async def join(cloud: Cloud, folder: Path, invitation: Invitation | None, machine: str = "") -> HostIdentity:
    folder.mkdir(exist_ok=True)
    url = cloud.url if invitation is not None else None
    return await become(WORLD, folder, url=url, invitation=invitation, name="attic", kind="qemu", machine=machine)


def hello_of(identity: HostIdentity, **origin: Any) -> Hello:
    return Hello(
        cloud_id=identity.cloud_id,
        host_id=identity.host_id,
        name="attic",
        capabilities=Capabilities(kind="qemu", accelerator="tcg", vcpus=2, memory_mib=1024),
        origin=Origin(**origin),
    )


def test_a_machine_joins_says_hello_and_is_the_same_host_ever_after(tmp_path: Path) -> None:
    async def body(cloud: Cloud, _: Cloud) -> None:
        invitation = await cloud.invite()
        identity = await join(cloud, tmp_path / "host", invitation)
        assert (identity.cloud_id, identity.name) == ("c-one", "attic")
        assert (tmp_path / "host" / "host.key").stat().st_mode & 0o077 == 0
        # As after a restart: neither address nor token are needed, and nothing is asked.
        assert await join(cloud, tmp_path / "host", None) == identity
        link = link_of(WORLD, tmp_path / "host", identity)
        session = await link.hello(hello_of(identity))
        news = await link.assignments(session, timeout_s=1.0)
        assert news is not None
        assert news.full
        assert await link.assignments(session, timeout_s=0.05) is None
        await link.report(session, Reports(number=1, at=0.0))
        host = cloud.store.read(lambda reader: reader.get(Host, identity.host_id))
        assert host.underlay == "127.0.0.1:4789"
        assert host.takes_instances
        link.close()

    story(tmp_path, body)


def test_a_lost_answer_is_asked_for_again_and_gives_the_same_host(tmp_path: Path) -> None:
    async def body(cloud: Cloud, _: Cloud) -> None:
        invitation = await cloud.invite()
        first = await join(cloud, tmp_path / "host", invitation)
        # As when the agent died before it wrote down the answer.
        (tmp_path / "host" / "host.json").unlink()
        (tmp_path / "host" / "joining.json").write_text(f'{{"token_id": "{invitation.token_id}"}}')
        assert (await join(cloud, tmp_path / "host", invitation)).host_id == first.host_id
        assert len(cloud.store.read(lambda reader: reader.where(Host))) == 1

    story(tmp_path, body)


def test_every_other_way_in_is_refused(tmp_path: Path) -> None:
    async def body(cloud: Cloud, other: Cloud) -> None:
        async def refused(invitation: Invitation, name: str, at: Cloud = cloud) -> str:
            with pytest.raises(Refused) as caught:
                await join(at, tmp_path / name, invitation)
            return str(caught.value)

        used = await cloud.invite()
        await join(cloud, tmp_path / "first", used)
        assert "was used already" in await refused(used, "second")
        revoked = await cloud.invite()
        await cloud.operations.revoke_token(cloud.call, revoked.token_id)
        assert "was revoked" in await refused(revoked, "third")
        late = await cloud.invite(expires_s=1.0)
        await asyncio.sleep(1.1)
        assert "has expired" in await refused(late, "fourth")
        good = await cloud.invite()
        forged = Invitation(good.cloud_id, good.authority, good.token_id, bytes(20))
        assert "no such token" in await refused(forged, "fifth")
        # The token of one cloud at the door of another: nothing is told to it.
        assert "answers cloud c-two" in await refused(good, "sixth", at=other)
        assert cloud.store.read(lambda reader: len(reader.where(Host))) == 1
        assert other.store.read(lambda reader: reader.where(Host)) == []

    story(tmp_path, body)


def test_a_host_hears_nothing_from_another_cloud_at_its_clouds_address(tmp_path: Path) -> None:
    async def body(cloud: Cloud, other: Cloud) -> None:
        identity = await join(cloud, tmp_path / "host", await cloud.invite())
        link = link_of(WORLD, tmp_path / "host", replace(identity, url=other.url))
        with pytest.raises(Refused, match="answers cloud c-two, and this host belongs to c-one"):
            await link.hello(hello_of(identity))
        with pytest.raises(Refused, match="the token is of cloud c-two"):
            await join(other, tmp_path / "host", await other.invite())

    story(tmp_path, body)


def test_a_host_speaks_for_itself_alone(tmp_path: Path) -> None:
    async def body(cloud: Cloud, _: Cloud) -> None:
        mine = await join(cloud, tmp_path / "mine", await cloud.invite())
        other = await join(cloud, tmp_path / "other", await cloud.invite())
        link, thief = link_of(WORLD, tmp_path / "mine", mine), link_of(WORLD, tmp_path / "other", other)
        session = await link.hello(hello_of(mine))
        with pytest.raises(SessionLost):
            await thief.report(session, Reports(number=1, at=0.0))
        # Whatever name it gives, its certificate says who it is.
        await thief.hello(hello_of(mine))
        assert await link.assignments(session, timeout_s=1.0) is not None

    story(tmp_path, body)


def test_a_copy_of_a_host_is_refused_beside_the_original(tmp_path: Path) -> None:
    async def body(cloud: Cloud, _: Cloud) -> None:
        identity = await join(cloud, tmp_path / "host", await cloud.invite())
        link = link_of(WORLD, tmp_path / "host", identity)
        await link.hello(hello_of(identity, machine="m1", place="p1", run="a", starts=3))
        with pytest.raises(Refused, match="one of the two is a copy"):
            await link.hello(hello_of(identity, machine="m2", place="p1", run="b", starts=3))
        with pytest.raises(Refused, match="is connected from another machine"):
            await link.hello(hello_of(identity, machine="m2", place="p1", run="b", starts=4))
        with pytest.raises(Refused, match="is older than"):
            await link.hello(hello_of(identity, machine="m2", place="p1", run="c", starts=2))
        # The original itself, killed and started again.
        await link.hello(hello_of(identity, machine="m1", place="p1", run="d", starts=4))
        with pytest.raises(Refused, match="is a host of this cloud already"):
            await join(cloud, tmp_path / "again", await cloud.invite(), machine="m1")

    story(tmp_path, body)


def test_a_removed_host_is_told_so_and_may_join_anew(tmp_path: Path) -> None:
    async def body(cloud: Cloud, _: Cloud) -> None:
        identity = await join(cloud, tmp_path / "host", await cloud.invite())
        link = link_of(WORLD, tmp_path / "host", identity)
        await link.hello(hello_of(identity))
        await cloud.operations.remove(cloud.call, "attic", Remove())
        await Hosts(cloud.store, WORLD.clock).reconcile()
        assert cloud.store.read(lambda reader: reader.where(Host)) == []
        with pytest.raises(Refused, match="was removed from this cloud"):
            await link.hello(hello_of(identity))
        again = await join(cloud, tmp_path / "host", await cloud.invite())
        assert again.host_id != identity.host_id

    story(tmp_path, body)


def test_a_host_gets_the_images_of_its_own_instances_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "registered.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "10M"], check=True)
    source = f"file://{path}"

    async def body(cloud: Cloud, _: Cloud) -> None:
        mine = await join(cloud, tmp_path / "mine", await cloud.invite())
        other = await join(cloud, tmp_path / "other", await cloud.invite())
        await cloud.store.write(lambda tx: tx.put(instance(host_id=mine.host_id, image_source=source)))
        for identity, folder in ((mine, "mine"), (other, "other")):
            link = link_of(WORLD, tmp_path / folder, identity)
            images = RemoteImages(WORLD, tmp_path / f"{folder} images", LocalImages(WORLD, tmp_path / "unused"), link)
            if identity is mine:
                assert (await images.fetch(source)).disk.read_bytes() == path.read_bytes()
            else:
                with pytest.raises(Impossible, match="runs nothing that needs the image"):
                    await images.fetch(source)
            link.close()

    story(tmp_path, body)


def test_a_token_that_was_cut_off_or_mistyped_is_told_from_a_wrong_one() -> None:
    text = invitation_text(Invitation("c-one", bytes(range(32)), "tok-1", bytes(20)))
    assert read_invitation(f" {text[:40]}\n{text[40:]} ").cloud_id == "c-one"
    for broken in (text[:-3], text[:50] + ("A" if text[50] != "A" else "B") + text[51:]):
        with pytest.raises(BadInvitation, match="cut off or mistyped"):
            read_invitation(broken)
