"""`python -m tests.sim --seed 4711 [--trace]` replays one seed exactly; `--seeds 0:500` runs many."""

import argparse
import sys
import time

from tests.sim.every_pair import pairs, play_kills, singles, steps
from tests.sim.every_step import VICTIMS, count_steps, play_death
from tests.sim.mutants import MUTANTS, planted
from tests.sim.scenario import Outcome, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", help="replay this one")
    parser.add_argument("--seeds", help="FROM:TO, run all of these")
    parser.add_argument("--trace", action="store_true", help="print every step, and what the product logs")
    parser.add_argument("--mutants", nargs="*", help="plant these (all when none is named), and say which seed finds each")
    parser.add_argument("--every-step", action="store_true", help="kill each victim at each step of one story")
    parser.add_argument(
        "--every-pair", action="store_true", help="kill at each step, and pair of steps, of association and attachment"
    )
    parser.add_argument("--stop", action="store_true", help="end at the first failure")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = play(options.seed, trace=sys.stdout.write if options.trace else None)
        print(_line(outcome))
        return 1 if outcome.failure else 0
    if options.every_step:
        return _every_step()
    if options.every_pair:
        return _every_pair()
    first, _, last = (options.seeds or ("0:1000" if options.mutants is not None else "0:500")).partition(":")
    if options.mutants is not None:
        return _hunt(options.mutants, range(int(first), int(last)))
    began, failed, steps, simulated_s = time.monotonic(), 0, 0, 0.0
    for seed in range(int(first), int(last)):
        outcome = play(seed)
        steps += outcome.steps
        simulated_s += outcome.time_s
        if outcome.failure:
            failed += 1
            print(_line(outcome), flush=True)
            if options.stop:
                break
    took_s = time.monotonic() - began
    count = int(last) - int(first)
    print(f"{count} seeds, {failed} failed; {steps} steps and {simulated_s / 3600:.1f} simulated hours in {took_s:.1f} s")
    return 1 if failed else 0


def _hunt(names: list[str], seeds: range) -> int:
    living = 0
    for mutant in MUTANTS:
        if names and mutant.__name__ not in names:
            continue
        with planted(mutant):
            found = next((outcome for outcome in map(play, seeds) if outcome.failure), None)
        living += found is None
        print(f"{mutant.__name__:26} {_line(found)[:150] if found else 'LIVES'}", flush=True)
    return 1 if living else 0


def _every_step() -> int:
    steps, failed, began = count_steps(), 0, time.monotonic()
    for victim in VICTIMS:
        for step in range(1, steps):
            death = play_death(victim, step)
            if death.failure:
                failed += 1
                print(f"{victim} at step {step}: FAILED {death.failure}", flush=True)
    print(f"{len(VICTIMS)} victims at each of {steps - 1} steps, {failed} failed; {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


def _every_pair() -> int:
    names, failed, began = steps(), 0, time.monotonic()
    for number, name in enumerate(names, 1):
        print(f"{number:3} {name}")
    every = [*singles(len(names)), *pairs(len(names))]
    for kills in every:
        fate = play_kills(*kills)
        if fate.failure:
            failed += 1
            print(fate, flush=True)
    print(f"{len(every)} single deaths and pairs, {failed} failed; {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


def _line(outcome: Outcome) -> str:
    what = f"FAILED {outcome.failure}" if outcome.failure else "passed"
    counts = f"{outcome.steps} steps, {outcome.time_s:.1f} s, {outcome.checks} checks"
    return f"seed {outcome.seed}: {what} ({counts}, {outcome.digest[:16]})"


if __name__ == "__main__":
    sys.exit(main())
