"""Where a machine's control groups begin. Goal: beside the machine's first process, where LXC looks for them, too. Method: the
kernel's own words from a plain machine, from one with systemd, and from within containers with and without a namespace."""

from pathlib import Path

from alto.drivers.compute.groups import begins

CPU, MEMORY = frozenset(("rw", "cpu", "cpuacct")), frozenset(("rw", "memory"))


def test_version_1() -> None:
    mounts = """\
22 20 0:19 / /proc rw,relatime - proc proc rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
"""
    plain = [(Path("/sys/fs/cgroup/cpu,cpuacct"), CPU), (Path("/sys/fs/cgroup/memory"), MEMORY)]
    assert begins(mounts, "4:memory:/\n1:cpu,cpuacct:/\n0::/\n") == plain
    below = [plain[0], (Path("/sys/fs/cgroup/memory/jobs/7"), MEMORY)]
    assert begins(mounts, "4:memory:/jobs/7\n1:cpu,cpuacct:/\n0::/\n") == below


def test_version_1_where_only_ours_is_mounted() -> None:
    mounts = "35 31 0:32 /docker/1f /sys/fs/cgroup/memory ro,nosuid master:17 - cgroup cgroup rw,memory\n"
    assert begins(mounts, "4:memory:/docker/1f\n") == [(Path("/sys/fs/cgroup/memory"), MEMORY)]
    assert begins(mounts, "4:memory:/docker/1f/init\n") == [(Path("/sys/fs/cgroup/memory/init"), MEMORY)]
    # Another namespace's path is nothing to go by.
    assert begins(mounts, "4:memory:/../2e\n") == [(Path("/sys/fs/cgroup/memory"), MEMORY)]


def test_version_2() -> None:
    mounts = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
    assert begins(mounts, "0::/init.scope\n") == [(Path("/sys/fs/cgroup"), frozenset())]
    assert begins(mounts, "0::/\n") == [(Path("/sys/fs/cgroup"), frozenset())]


def test_both() -> None:
    mounts = """\
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
    named = frozenset(("rw", "xattr", "name=systemd"))
    assert begins(mounts, "1:name=systemd:/init.scope\n0::/init.scope\n") == [
        (Path("/sys/fs/cgroup/systemd"), named),
        (Path("/sys/fs/cgroup/unified"), frozenset()),
    ]
