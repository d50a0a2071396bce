"""`make chaos`: injects faults under a steady load and prints one table.

Exit status 1 when a bound of the contract is broken: a lost request, an unexpected error code, a
response after the budget, a refused connection, a granted session without its audit line, a late
recovery, or too much memory.
"""

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass
from time import monotonic

import uvloop

from loadtests.chaos.experiments import EXPERIMENTS, Experiment
from loadtests.chaos.load import Load, Record
from loadtests.chaos.machine import enter_own_network
from loadtests.chaos.rig import Rig, rig
from rig.waiting import until

BUDGET_SECONDS = 3.0
MEASUREMENT_SECONDS = 0.5
"""The tolerance of a response time: the clients share the machine with the service."""

PROCESS_MEGABYTES = 90
CONNECTION_MEGABYTES = 0.1
"""The memory of a worker is at most 90 MiB, and 100 KiB for each connection."""

RATE = 100
CLIENTS = 20


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of an experiment; `faults` are the broken bounds."""

    name: str
    record: Record
    recovery: float
    memory: float
    faults: list[str]

    def row(self) -> str:
        """Return a row of the table."""
        record = self.record
        kinds = [f"{count} {code}" for code, count in record.codes().items()]
        if record.unconnected:
            kinds.append(f"{record.unconnected} connections")
        refused = ", ".join(kinds) or "0"
        return (
            f"| {self.name} | {record.requests} | {len(record.lost)} | {refused} "
            f"| {record.p99() * 1000:.0f} ms | {self.recovery:.1f} s | {self.memory:.0f} MiB |"
        )


HEADER = (
    "| experiment | requests | lost | refused | p99 | recovery | memory |\n"
    "| --- | ---: | ---: | --- | ---: | ---: | ---: |"
)


async def run(experiment: Experiment, target: Rig, seconds: float) -> Result:
    """Run an experiment under load."""
    reuse = not experiment.new_clients
    load = Load(target.connect, target.token, rate=RATE, clients=CLIENTS, reuse=reuse)
    running = asyncio.create_task(load.run())
    await asyncio.sleep(seconds / 4)
    faults = []
    try:
        await experiment.inject(target, seconds)
    except TimeoutError:
        faults.append("the experiment did not finish")
    except AssertionError as error:
        faults.append(str(error))
    ended_at = monotonic()
    memory = target.service.memory_megabytes()
    if not target.service.has_ended:
        await _recovered(load.record, seconds / 2, experiment.recovery)
    elif not experiment.ends_service:
        faults.append("the service ended")
    load.stop()
    await running
    recovery = load.record.recovery(ended_at)
    faults += await _faults(experiment, target, load.record, recovery)
    if memory > (most := PROCESS_MEGABYTES + CONNECTION_MEGABYTES * experiment.connections):
        faults.append(f"a worker used {memory:.0f} MiB, over {most:.0f} MiB")
    return Result(experiment.name, load.record, recovery, memory, faults)


async def _recovered(record: Record, least: float, most: float) -> None:
    """Wait for `least` seconds, and then until requests are granted, for `most` seconds in all."""
    await asyncio.sleep(least)
    with suppress(TimeoutError):
        await until(lambda: not record.is_failing(), seconds=max(0.0, most - least))


async def _faults(
    experiment: Experiment, target: Rig, record: Record, recovery: float
) -> list[str]:
    faults = []
    if len(record.lost) > experiment.lost:
        faults.append(f"{len(record.lost)} lost ({', '.join(sorted(set(record.lost)))})")
    if record.unconnected and not experiment.ends_service:
        faults.append(f"{record.unconnected} connections refused")
    if unexpected := set(record.codes()) - experiment.codes:
        faults.append(f"unexpected codes: {', '.join(sorted(unexpected))}")
    slowest = max((answer.seconds for answer in record.answers), default=0)
    if slowest > BUDGET_SECONDS + MEASUREMENT_SECONDS:
        faults.append(f"a response took {slowest:.1f} s")
    if experiment.new_clients and record.p99() > experiment.new_clients:
        faults.append(f"new clients waited {record.p99():.1f} s")
    if recovery > experiment.recovery:
        faults.append(f"recovery took {recovery:.1f} s")
    if missing := await _missing_lines(target, record):
        faults.append(f"{missing} granted sessions without an audit line")
    if not record.answers:
        faults.append("no request was answered")
    return faults


async def _missing_lines(target: Rig, record: Record) -> int:
    """Count granted sessions without an audit line, once the lines have arrived."""
    granted = {answer.request_id for answer in record.answers if answer.status == 200}
    with suppress(TimeoutError):
        await until(lambda: granted <= target.service.audit.granted, seconds=2)
    return len(granted - target.service.audit.granted) + target.service.audit.malformed


async def main() -> int:
    """Run all experiments; return the exit status."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seconds", type=float, default=8, help="duration of each fault")
    parser.add_argument("--only", default="", help="run experiments whose name contains this")
    options = parser.parse_args()
    chosen = [each for each in EXPERIMENTS if options.only in each.name]
    print(HEADER, flush=True)
    faults = []
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(rig())
        for experiment in chosen:
            if experiment.missing:
                print(f"| {experiment.name} | not run: needs {experiment.missing} | | | | | |")
                continue
            async with experiment.rig() if experiment.rig else nullcontext(shared) as target:
                result = await run(experiment, target, options.seconds)
            if shared.service.has_ended and experiment is not chosen[-1]:
                shared = await stack.enter_async_context(rig())
            print(result.row(), flush=True)
            faults += [f"{experiment.name}: {fault}" for fault in result.faults]
    for fault in faults:
        print(f"BROKEN  {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    enter_own_network()
    raise SystemExit(uvloop.run(main()))
