"""Goal: a guest gets its address, its names and its metadata, and those of nobody else.

Method: busybox's DHCP client and resolver and curl, in guests; what AWS answers is written down here by hand.
"""

import base64
import pwd
import socket
import struct
from pathlib import Path

import msgspec
import pytest

from alto.kit.world import inside_netns
from alto.model.errors import DriverFault
from alto.model.instances import MetadataOptions
from alto.model.network_plans import Names
from tests.drivers.network.guests import Guest, open_socket, wait_for
from tests.drivers.network.machinery import Cloud
from tests.drivers.network.samples import allow, group, machine, plan, port

pytestmark = pytest.mark.net

BASE = "http://169.254.169.254/latest"


def lease(number: int) -> str:
    last = 10 + number
    return f"lease 10.77.0.{last}/24 router 10.77.0.1 dns 10.77.0.2 domain ec2.internal name ip-10-77-0-{last}\n"


def name_of(guest: Guest, name: str, server: str = "10.77.0.2") -> str:
    return guest.run("busybox", "nslookup", name, server, check=False)


def test_each_guest_gets_its_own_lease_and_all_names_of_the_vpc(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure()
    guests = [cloud.guest(number, configured=False) for number in (1, 2)]
    assert [guest.dhcp(tmp_path) for guest in guests] == [lease(1), lease(2)]
    assert "10.77.0.12" in name_of(guests[0], "ip-10-77-0-12.ec2.internal")
    assert "10.77.0.12" in name_of(guests[0], "ip-10-77-0-12")
    assert "ip-10-77-0-12.ec2.internal" in name_of(guests[0], "10.77.0.12")
    assert "10.77.0.12" in name_of(guests[0], "ip-10-77-0-12.ec2.internal", "169.254.169.253")
    assert "NXDOMAIN" in name_of(guests[0], "ip-10-77-0-99.ec2.internal")


def options(guest: Guest, folder: Path) -> dict[str, str]:
    """What a lease says beside the address: busybox asks for these, and hands them to its script as variables."""
    script = folder / "options"
    script.write_text('#!/bin/sh\n[ "$1" = bound ] && for one in dns domain ntpsrv wins mtu; do eval echo $one=\\$$one; done\n')
    script.chmod(0o755)
    asked = [word for name in ("dns", "domain", "ntpsrv", "wins", "mtu") for word in ("-O", name)]
    udhcpc = ("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "3", "-T", "1", *asked, "-s", str(script))
    lines = guest.run(*udhcpc, check=False).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_lease_says_what_the_vpcs_dhcp_options_say(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure()
    guest = cloud.guest(1, configured=False)
    nothing = {"ntpsrv": "", "wins": "", "mtu": ""}
    assert options(guest, tmp_path) == {**nothing, "dns": "10.77.0.2", "domain": "ec2.internal"}
    chosen = {
        "domain-name": ("corp.example",),
        "domain-name-servers": ("10.9.0.53", "AmazonProvidedDNS", "fd00::53"),
        "ntp-servers": ("10.9.0.1", "10.9.0.2"),
        "netbios-name-servers": ("10.9.0.3",),
        "netbios-node-type": ("2",),
    }
    cloud.ensure(plan(dhcp=chosen), port(1))
    told = {"ntpsrv": "10.9.0.1 10.9.0.2", "wins": "10.9.0.3", "mtu": ""}
    assert options(guest, tmp_path) == {**told, "dns": "10.9.0.53 10.77.0.2", "domain": "corp.example"}
    cloud.ensure(plan(dhcp={"ntp-servers": ("10.9.0.1",)}), port(1))
    assert options(guest, tmp_path) == {**nothing, "ntpsrv": "10.9.0.1", "dns": "", "domain": ""}
    cloud.ensure(plan(vni=0x800001, underlay="127.0.0.1:24789"), port(1))
    assert options(guest, tmp_path)["mtu"] == "1450"


def test_a_vpc_without_dns_support_has_no_resolver(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure()
    guest = cloud.guest(1, configured=False)
    assert guest.dhcp(tmp_path) == lease(1)
    assert "10.77.0.11" in name_of(guest, "ip-10-77-0-11.ec2.internal")
    cloud.ensure(plan(dns_support=False), port(1))
    assert "10.77.0.11" not in name_of(guest, "ip-10-77-0-11.ec2.internal").replace("10.77.0.2", "")
    assert options(guest, tmp_path)["dns"] == ""


def test_a_vpc_without_hostnames_knows_no_names_and_gives_addresses_all_the_same(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure(plan(dns_hostnames=False))
    guest = cloud.guest(1, configured=False)
    nameless = lease(1).replace("ip-10-77-0-11", "")
    assert guest.dhcp(tmp_path) == nameless
    for asked in ("ip-10-77-0-11.ec2.internal", "ip-10-77-0-11", "10.77.0.11"):
        assert "can't find" in name_of(guest, asked)
    # From one to the other and back, under one guest.
    cloud.ensure(plan(), port(1))
    assert "10.77.0.11" in name_of(guest, "ip-10-77-0-11.ec2.internal").replace("10.77.0.2", "")
    cloud.ensure(plan(dns_hostnames=False), port(1))
    wait_for(lambda: "NXDOMAIN" in name_of(guest, "ip-10-77-0-11.ec2.internal"), "its name is forgotten")
    assert guest.dhcp(tmp_path) == nameless


def test_what_left_is_forgotten(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure()
    guest = cloud.guest(1)
    gone = cloud.guest(2)
    assert "10.77.0.12" in name_of(guest, "ip-10-77-0-12.ec2.internal")
    gone.close()
    cloud.do(lambda driver: driver.unplug(port(2).id, "vpc-1"))
    wait_for(lambda: "NXDOMAIN" in name_of(guest, "ip-10-77-0-12.ec2.internal"), "its name is forgotten")
    # Its MAC at another address: dnsmasq must not remember the first.
    moved = cloud.guest(3, configured=False, mac=port(2).mac)
    assert moved.dhcp(tmp_path) == lease(3)


def test_an_address_that_changes_hands_is_leased_to_the_new_hands_at_once(cloud: Cloud, tmp_path: Path) -> None:
    cloud.ensure()
    old = cloud.guest(1, configured=False)
    assert old.dhcp(tmp_path) == lease(1)
    assert "ip-10-77-0-11.ec2.internal" in name_of(old, "10.77.0.11")
    old.close()
    cloud.do(lambda driver: driver.unplug(port(1).id, "vpc-1"))
    heir = port(7, mac="02:00:0a:4d:00:77", private_ip="10.77.0.11", hostname="heir.ec2.internal")
    new = cloud.guest(7, configured=False, **{name: getattr(heir, name) for name in ("mac", "private_ip", "hostname")})
    assert new.dhcp(tmp_path) == lease(1).replace("ip-10-77-0-11", "heir")
    assert "10.77.0.11" in name_of(new, "heir.ec2.internal")
    assert "NXDOMAIN" in name_of(new, "ip-10-77-0-11.ec2.internal")
    assert new.curl(f"{BASE}/meta-data/instance-id") == f"{machine(7).id}\n200"


def test_a_guest_cannot_speak_dhcp_for_another(cloud: Cloud) -> None:
    """RFC 2131: a DECLINE of a neighbour's address would make dnsmasq keep it back for ten minutes."""
    cloud.ensure()
    attacker = cloud.guest(1)
    cloud.guest(2)

    def discover(client: str) -> bool:
        """Whether a DISCOVER that names `client` is answered."""
        hardware = bytes.fromhex(client.replace(":", ""))
        head = struct.pack("!BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, 99, 0, 0x8000, *[bytes(4)] * 4, hardware, b"", b"")
        with inside_netns(attacker.netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            sock.bind(("", 68))
            sock.settimeout(1)
            sock.sendto(head + bytes.fromhex("63825363 350101 ff"), ("255.255.255.255", 67))
            try:
                return bool(sock.recv(2000))
            except TimeoutError:
                return False

    assert discover(port(1).mac)
    assert not discover(port(2).mac)


def test_metadata_is_the_guests_own_and_follows_what_is_described(cloud: Cloud) -> None:
    cloud.ensure(plan(group("sg-default", allow("-1", group="sg-default"))))
    first = port(1, public_ip="127.64.0.5")
    script = base64.b64encode(b"#!/bin/sh\necho \xff\x00 hello\n").decode()
    known = machine(1, of=first, user_data=script, key_name="mine", public_key="ssh-ed25519 AAAA me")
    guest = cloud.guest(1, machine_of=known, public_ip="127.64.0.5")
    other = cloud.guest(2)
    assert guest.curl(f"{BASE}/meta-data/instance-id") == f"{known.id}\n200"
    assert other.curl(f"{BASE}/meta-data/instance-id") == f"{machine(2).id}\n200"
    assert guest.curl(f"{BASE}/meta-data/public-ipv4") == "127.64.0.5\n200"
    assert other.curl(f"{BASE}/meta-data/public-ipv4").endswith("404")
    assert guest.curl(f"{BASE}/meta-data/public-keys/") == "0=mine\n200"
    assert guest.curl(f"{BASE}/meta-data/public-keys/0/openssh-key") == "ssh-ed25519 AAAA me\n\n200"
    with open_socket(guest.netns, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect(("169.254.169.254", 80))
        sock.sendall(b"GET /latest/user-data HTTP/1.0\r\n\r\n")
        answer = b""
        while data := sock.recv(1000):
            answer += data
    assert answer.endswith(b"\r\n\r\n#!/bin/sh\necho \xff\x00 hello\n")

    bare = msgspec.structs.replace(first, public_ip=None)
    now = machine(1, of=bare, metadata=MetadataOptions(tokens_required=True))
    cloud.do(lambda driver: driver.describe(bare, now))
    assert guest.curl(f"{BASE}/meta-data/instance-id").endswith("401")
    token = guest.run("curl", "-s", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", f"{BASE}/api/token")
    signed = ("-H", f"X-aws-ec2-metadata-token: {token}")
    assert guest.curl(f"{BASE}/meta-data/instance-id", *signed) == f"{known.id}\n200"
    assert guest.curl(f"{BASE}/meta-data/public-ipv4", *signed).endswith("404")
    assert other.curl(f"{BASE}/meta-data/instance-id", *signed).endswith("401")


def test_a_tokens_answer_travels_as_many_hops_as_the_instance_allows(cloud: Cloud) -> None:
    cloud.ensure()
    for number, hops in ((1, 1), (2, 3)):
        guest = cloud.guest(number, machine_of=machine(number, metadata=MetadataOptions(hop_limit=hops)))
        with inside_netns(guest.netns):
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        with sniffer:
            sniffer.bind(("eth0", 0x0800))
            sniffer.settimeout(2)
            guest.run("curl", "-s", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", f"{BASE}/api/token")
            while True:
                packet = sniffer.recv(2000)
                if b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds" in packet:
                    break
            assert packet[8] == hops


def test_whether_a_guest_answers_is_seen_whatever_its_rules(cloud: Cloud) -> None:
    cloud.ensure(plan(group("sg-1")))
    guest = cloud.guest(1, "sg-1", configured=False)
    assert not cloud.do(lambda driver: driver.reach(port(1)))
    guest.run("ip", "addr", "add", "10.77.0.11/24", "dev", "eth0")
    assert cloud.do(lambda driver: driver.reach(port(1)))
    assert not cloud.do(lambda driver: driver.reach(port(2)))
    guest.close()
    assert not cloud.do(lambda driver: driver.reach(port(1)))


@pytest.mark.parametrize(
    "changes",
    [
        {"hostname": "a\nb"},
        {"hostname": "a,b"},
        {"names": Names(v4=("a,b",))},
        {"mac": "02:00:0a:4d:00:0b,set:x"},
        {"private_ip": "10.77.0.11\n"},
        {"private_ip": "10.78.0.11"},
        {"subnet_cidr": "nonsense"},
        {"public_ip": "192.0.2.1"},
        {"id": "eni-/../../x"},
    ],
)
def test_what_must_not_get_into_a_file_is_refused_before_anything_happens(cloud: Cloud, changes: dict[str, object]) -> None:
    cloud.ensure()
    before = cloud.traces()
    bad = port(1, **changes)
    with pytest.raises(DriverFault):
        cloud.do(lambda driver: driver.plug(bad, machine(1, of=bad)))
    assert cloud.traces() == before


def test_who_answers_guests_has_almost_nothing_of_roots(cloud: Cloud, tmp_path: Path) -> None:
    """Goal: who breaks into a VPC's dnsmasq is nobody on the machine. Method: what the kernel says of a running one, which
    then goes on answering guests that come later, and cannot read what is its folder's neighbour."""
    cloud.ensure()
    folder = cloud.folder / "vpcs" / "vpc-1"
    pid = int((folder / "dnsmasq.pid").read_text())
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    user = next(pwd.getpwnam(name) for name in ("dnsmasq", "nobody") if name in {one.pw_name for one in pwd.getpwall()})
    assert user.pw_uid != 0
    assert status["Uid"].split() == [str(user.pw_uid)] * 4
    assert status["Gid"].split() == [str(user.pw_gid)] * 4
    assert status["Groups"].split() in ([], [str(user.pw_gid)])
    # CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12, CAP_NET_RAW 13 (linux/capability.h).
    for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[name], 16) & ~(1 << 10 | 1 << 12 | 1 << 13) == 0, name
    guest = cloud.guest(1, configured=False)
    assert guest.dhcp(tmp_path) == lease(1)
    assert "10.77.0.11" in name_of(guest, "ip-10-77-0-11.ec2.internal")
    (secrets,) = (folder / "ports").iterdir()
    for path in (secrets, folder / "network.json"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_that_dnsmasq_cannot_enter_is_said_and_not_found_out_by_guests(cloud: Cloud, tmp_path: Path) -> None:
    cloud.folder.mkdir()
    cloud.folder.chmod(0o700)
    with pytest.raises(DriverFault, match="may not enter"):
        cloud.ensure()
    cloud.folder.chmod(0o711)
    cloud.ensure()
    assert cloud.guest(1, configured=False).dhcp(tmp_path) == lease(1)


@pytest.mark.parametrize("tagged", [False, True], ids=["all names are known", "one is told its name alone"])
def test_names_that_change_over_and_over(cloud: Cloud, tmp_path: Path, tagged: bool) -> None:
    """Goal: dnsmasq lives, which has died of its memory. Method: names of a guest with a lease change while another asks."""
    cloud.ensure()
    called = "web.ec2.internal"
    guest = cloud.guest(1, configured=False)
    asker = cloud.guest(2, configured=False, names=Names(v4=("other.ec2.internal",)) if tagged else None)
    for one in (guest, asker):
        one.dhcp(tmp_path)
    pid_file = next(cloud.folder.rglob("dnsmasq.pid"))
    before = pid_file.read_text()
    for is_known in (True, False) * 5:
        again = port(1, hostname=called) if is_known else port(1)
        cloud.do(lambda driver, again=again: driver.describe(again, machine(1, of=again)))
        answer = "10.77.0.11" if is_known else "NXDOMAIN"
        wait_for(lambda answer=answer: answer in name_of(asker, called), "the last word is known")
    assert tagged or pid_file.read_text() == before


def test_names_of_ids_are_known_where_they_are_wanted(cloud: Cloud, tmp_path: Path) -> None:
    """By their own guest and by others, from DHCP too, both ways; and only where DNS is to know them."""
    cloud.ensure()
    id, other = (f"i-{number:017x}.ec2.internal" for number in (1, 2))
    by_address = "ip-10-77-0-11.ec2.internal"
    guest = cloud.guest(1, configured=False, hostname=id, names=Names(v4=(id, by_address)))
    silent = cloud.guest(2, configured=False, hostname=other, names=Names(v4=("ip-10-77-0-12.ec2.internal",)))
    assert guest.dhcp(tmp_path) == lease(1).replace("ip-10-77-0-11", f"i-{1:017x}")
    assert silent.dhcp(tmp_path) == lease(2).replace("ip-10-77-0-12", f"i-{2:017x}")
    for asked in (id, f"i-{1:017x}", by_address):
        assert "10.77.0.11" in name_of(silent, asked).replace("10.77.0.2", "")
    assert id in name_of(silent, "10.77.0.11")
    assert "NXDOMAIN" in name_of(guest, other)
    assert "ip-10-77-0-12.ec2.internal" in name_of(guest, "10.77.0.12")
    # A name that is taken away under a running guest.
    again = port(1, names=None)
    cloud.do(lambda driver: driver.describe(again, machine(1, of=again)))
    wait_for(lambda: "NXDOMAIN" in name_of(silent, id), "the name is forgotten")
    assert "10.77.0.11" in name_of(silent, by_address).replace("10.77.0.2", "")
