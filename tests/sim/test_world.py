"""Goal: the simulated disk loses what a real one may lose and nothing else. Method: cut the power at many seeds."""

import random
from pathlib import Path

import pytest

from tests.sim.loop import SimLoop
from tests.sim.world import EPOCH, SimChance, SimDisk, SimFiles, sim_world

FOLDER = Path("/var/lib/x")


def _files() -> tuple[SimDisk, SimFiles]:
    disk = SimDisk()
    files = SimFiles(disk)
    files.make_dirs(FOLDER)
    return disk, files


def test_files_behave_as_the_real_ones_do() -> None:
    _, files = _files()
    with pytest.raises(FileNotFoundError):
        files.read(FOLDER / "a")
    with pytest.raises(FileNotFoundError):
        files.write(Path("/nowhere/a"), b"1")
    files.write(FOLDER / "a", b"1")
    files.append(FOLDER / "log", b"x")
    files.append(FOLDER / "log", b"y")
    files.make_dirs(FOLDER / "sub")
    assert files.names(FOLDER) == ["a", "log", "sub"]
    assert files.names(Path("/nowhere")) == []
    assert files.read(FOLDER / "log") == b"xy"
    files.remove(FOLDER / "a")
    files.remove(FOLDER / "a")
    assert not files.exists(FOLDER / "a")
    files.remove_tree(FOLDER)
    files.remove_tree(FOLDER)
    assert not files.exists(FOLDER)


def test_a_power_cut_keeps_what_was_written_and_bites_what_was_not() -> None:
    logs, ghosts = set(), set()
    for seed in range(50):
        disk, files = _files()
        files.write(FOLDER / "kept", b"old")
        files.write(FOLDER / "kept", b"new")
        files.write(FOLDER / "gone", b"1")
        files.remove(FOLDER / "gone")
        files.append(FOLDER / "log", b"abc")
        disk.cut_power(random.Random(seed))
        assert files.read(FOLDER / "kept") == b"new"
        logs.add(files.read(FOLDER / "log") if files.exists(FOLDER / "log") else None)
        ghosts.add(files.exists(FOLDER / "gone"))
    assert logs == {b"", b"a", b"ab", b"abc"}
    assert ghosts == {True, False}


def test_a_write_makes_earlier_removals_durable() -> None:
    for seed in range(20):
        disk, files = _files()
        files.write(FOLDER / "gone", b"1")
        files.remove(FOLDER / "gone")
        files.write(FOLDER / "other", b"2")
        disk.cut_power(random.Random(seed))
        assert files.names(FOLDER) == ["other"]


def test_clocks_may_disagree_and_jump_but_never_the_monotonic_one() -> None:
    loop = SimLoop(1)
    here = sim_world(loop, "here", SimDisk())
    there = sim_world(loop, "there", SimDisk(), skew_s=-600.0, booted_at=77.0)

    async def main() -> None:
        await here.clock.sleep(10)

    loop.run(main())
    assert here.clock.now() == EPOCH + 10
    assert there.clock.now() == EPOCH - 590
    assert there.clock.monotonic() == 87.0


def test_chance_is_the_seed() -> None:
    assert SimChance("a").hex(17) == SimChance("a").hex(17)
    assert SimChance("a").hex(17) != SimChance("b").hex(17)
    assert len(SimChance("a").hex(17)) == 17
    assert len(SimChance("a").bytes(5)) == 5
    assert 1 <= SimChance("a").uniform(1, 2) <= 2


def test_there_is_no_way_out_of_the_simulation() -> None:
    loop = SimLoop(1)
    world = sim_world(loop, "w", SimDisk())

    async def main() -> None:
        with pytest.raises(RuntimeError, match="fake driver"):
            await world.processes.run(["true"])
        with pytest.raises(RuntimeError, match="fake driver"):
            world.net.open_socket()

    loop.run(main())
