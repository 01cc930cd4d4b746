"""``make trials``: public reports, replayed against real processes; exit 1 if one does not hold."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from trials import ground, machines, rest, senders, vertex

SLOWEST_SECONDS = 200.0
AT_ONCE = 4
__all__ = ["machines", "rest", "senders", "vertex"]  # they register their trials


async def tried(each: ground.Trial, on: ground.Ground) -> str:
    """Run one trial; nothing, or why it does not hold."""
    try:
        async with asyncio.timeout(SLOWEST_SECONDS):
            await each.run(on)
    except Exception as error:  # noqa: BLE001  whatever it is, the report does not hold
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
    finally:
        if each.alone:
            on.stack.vertex.faults.clear()
    return ""


async def run(chosen: list[ground.Trial]) -> int:
    """Run all, and return how many do not hold."""
    failed = 0
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(each: ground.Trial, on: ground.Ground) -> None:
        nonlocal failed
        async with gate:
            began = time.monotonic()
            why = await tried(each, on)
        failed += bool(why)
        verdict = "FAILS" if why else "holds"
        seconds = time.monotonic() - began
        print(f"{each.number:>2}  {verdict}  {each.source}  {each.right}  ({seconds:.1f} s)")
        if why:
            print(f"          {why}")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        async with ground.ground(Path(folder)) as on:
            await asyncio.gather(*(one(each, on) for each in chosen if not each.alone))
            for each in chosen:
                if each.alone:
                    await one(each, on)
    print(f"\n{len(chosen) - failed} of {len(chosen)} hold")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, help="only these")
    numbers = parser.parse_args().numbers
    chosen = sorted(ground.TRIALS, key=lambda each: each.number)
    if numbers:
        chosen = [each for each in chosen if each.number in numbers]
    return 1 if asyncio.run(run(chosen)) else 0


if __name__ == "__main__":
    sys.exit(main())
