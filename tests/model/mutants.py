"""Mutants of the engine's rules, and what finds them: ``make mutants``.

Each is the engine with one rule broken, as a slip of the pen would break it. It is put in
front of the real one and lives the same random histories; where those do not find it in
time, because it takes three rare things at once, the stories told by hand must. A rule
that nobody misses when it is gone is either not tried or not needed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "src" / "model_copier"
CLUES = Path(__file__).parent / "mutant_clues.json"
MOST_HISTORIES = 3000
STORIES = [
    f"tests/unit/test_{name}.py"
    for name in (
        "job",
        "planning",
        "reconciliation",
        "start_queue",
        "steady_clock",
        "rare_rules",
        "workflow",
        "asking_again",
        "ticks",
    )
]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    name: str
    file: str
    old: str  # stands there exactly once
    new: str

    def __str__(self) -> str:
        return self.name

    def put_into(self, folder: Path) -> None:
        """Write the whole engine with this one change into ``folder``."""
        shutil.copytree(ENGINE, folder / "model_copier")
        file = folder / "model_copier" / self.file
        text = file.read_text()
        assert text.count(self.old) == 1, f"{self.name}: {self.file} has changed"
        file.write_text(text.replace(self.old, self.new))


MUTANTS = (
    Mutant(
        name="the lease is not checked before calling",
        file="engine/workflow.py",
        old="        if ends > job.due_at:",
        new="        if False:",
    ),
    Mutant(
        name="the lease is not saved before a step",
        file="engine/workflow.py",
        old="            job = await self.save(job.leased(now, self.timing))\n"
        "        except (StaleJobError, UnavailableError):\n",
        new="        except (StaleJobError, UnavailableError):\n",
    ),
    Mutant(
        name="a destination is not locked",
        file="domain/job.py",
        old="return str(self.target) if self.holds_destination else None",
        new="return None",
    ),
    Mutant(
        name="a released destination wakes nobody",
        file="engine/workflow.py",
        old="            for first in await self.store.awaiting(destination, 1):",
        new="            for first in await self.store.awaiting(destination, 0):",
    ),
    Mutant(
        name="an unknown outcome counts as not started",
        file="engine/workflow.py",
        old="            await self.save(job.snoozed(due_at))\n        else:\n",
        new='            await self.save(job.copy_reset(self.clock.now(), "").snoozed(due_at))\n'
        "        else:\n",
    ),
    Mutant(
        name="UNAVAILABLE counts as not started",
        file="domain/errors.py",
        old='    return OutcomeUnknownError(f"{code}: {message}")\n',
        new="    if code is Code.UNAVAILABLE:\n"
        "        return UnavailableError(message)\n"
        '    return OutcomeUnknownError(f"{code}: {message}")\n',
    ),
    Mutant(
        name="ALREADY_EXISTS counts as refused",
        file="domain/errors.py",
        old="        Code.OUT_OF_RANGE,\n        Code.UNIMPLEMENTED,",
        new="        Code.OUT_OF_RANGE,\n        Code.UNIMPLEMENTED,\n        Code.ALREADY_EXISTS,",
    ),
    Mutant(
        name="the call is forgotten on replay",
        file="domain/job.py",
        old="        open_call = self.call is not None\n"
        "        return replace(\n"
        "            self,\n",
        new="        open_call = False\n"
        "        return replace(\n"
        "            replace(self, call=None),\n",
    ),
    Mutant(
        name="a replay has only the calls that were left",
        file="domain/job.py",
        old="            attempts=1 if open_call else 0,\n",
        new="",
    ),
    Mutant(
        name="a replay has only the time that was left",
        file="domain/job.py",
        old="            watching_since=None,\n"
        "            looked_at=None,\n"
        "            failure_seen_at=None,\n"
        "            due_at=now,\n",
        new="            looked_at=None,\n"
        "            failure_seen_at=None,\n"
        "            due_at=now,\n",
    ),
    Mutant(
        name="the call is forgotten when a job is given up",
        file="domain/steps.py",
        old="    return job.failed(now, Failure(code=Code.DEADLINE_EXCEEDED,",
        new="    job = replace(job, call=None)\n"
        "    return job.failed(now, Failure(code=Code.DEADLINE_EXCEEDED,",
    ),
    Mutant(
        name="a job is given up without a look",
        file="domain/job.py",
        old="return self.call is None or looked or self.retries >= RETRIES_UNTIL_TROUBLE",
        new="return True",
    ),
    Mutant(
        name="a job that is given up says that nothing was made",
        file="domain/steps.py",
        old=' if job.may_have_copied else "nothing was made"',
        new=' if False else "nothing was made"',
    ),
    Mutant(
        name="a cancel is claimed that was not sent",
        file="domain/steps.py",
        old="    if job.state is State.COPYING and job.cancel_sent_at:",
        new="    if job.state is State.COPYING:",
    ),
    Mutant(
        name="waiting costs budget",
        file="domain/job.py",
        old="deadline_at=self.deadline_at or now + budget",
        new="deadline_at=self.deadline_at or self.run_started_at + budget",
    ),
    Mutant(
        name="an operation that is forgotten counts as failed",
        file="engine/workflow.py",
        old="            await self._reconcile(job)  # forgotten, or not visible yet",
        new='            reset = job.copy_reset(self.clock.now(), "")\n'
        "            await self.save(reset.snoozed(self.after(5)))",
    ),
    Mutant(
        name="any new version is taken for ours",
        file="domain/reconciliation.py",
        old="(model for model in new if job.source.is_origin(model.copy_of))",
        new="(model for model in new)",
    ),
    Mutant(
        name="versions that were there before count as new",
        file="domain/reconciliation.py",
        old="    old = ({*job.call.known_versions} | operations.made_by_others) - ours",
        new="    old = operations.made_by_others - ours",
    ),
    Mutant(
        name="a number that was there before is never ours",
        file="domain/reconciliation.py",
        old="    old = ({*job.call.known_versions} | operations.made_by_others) - ours",
        new="    old = {*job.call.known_versions} | operations.made_by_others",
    ),
    Mutant(
        name="known operations are not kept",
        file="domain/copy_call.py",
        old="None if known is None else tuple(operation_number(o.name) for o in known)",
        new="None if known is None else ()",
    ),
    Mutant(
        name="known operations are ignored",
        file="domain/copy_call.py",
        old="if operation_number(operation.name) in (self.known_operations or ()):",
        new="if False:",
    ),
    Mutant(
        name="an operation from before the call is taken for ours",
        file="domain/reconciliation.py",
        old="            if is_anothers or is_older:",
        new="            if is_anothers:",
    ),
    Mutant(
        name="an operation that was answered to another is taken for ours",
        file="domain/reconciliation.py",
        old="            if is_anothers or is_older:",
        new="            if is_older:",
    ),
    Mutant(
        name="an operation that another may have begun is taken for ours",
        file="domain/reconciliation.py",
        old="    ours = made.keys() - operations.shared - claims.keys()",
        new="    ours = made.keys() - claims.keys()",
    ),
    Mutant(
        name="versions that others claim are claimed too",
        file="domain/reconciliation.py",
        old="    claims = _claims(job, snapshot)",
        new="    claims: dict[str | None, Job] = {}",
    ),
    Mutant(
        name="a running operation is not waited for",
        file="domain/reconciliation.py",
        old="            if not operation.done:\n",
        new="            if False:\n",
    ),
    Mutant(
        name="a version of an older operation that runs is claimed",
        file="domain/reconciliation.py",
        old="    if operations.older_runs and isinstance(finding, Confirmed):",
        new="    if False:",
    ),
    Mutant(
        name="what an operation made need not be visible",
        file="domain/reconciliation.py",
        old="        or not (made.keys() <= shown or job.call.forgotten)",
        new="        or False",
    ),
    Mutant(
        name="absence is believed at once",
        file="domain/reconciliation.py",
        old="    if snapshot.operations is not None:\n        return job.call.visible_at\n",
        new="    if snapshot.operations is not None:\n        return job.call.requested_at\n",
    ),
    Mutant(
        name="one read is enough where no operation is ours",
        file="domain/reconciliation.py",
        old="    return finding if since and now > since + second_read else NeedsSecondRead()",
        new="    return finding",
    ),
    Mutant(
        name="where operations cannot be listed, visibility is enough",
        file="domain/reconciliation.py",
        old="    if snapshot.operations is not None:\n        return job.call.visible_at\n",
        new="    if True:\n        return job.call.visible_at\n",
    ),
    Mutant(
        name="a failed operation leaves its destination at once",
        file="domain/planning.py",
        old="    if left > 0:\n",
        new="    if False:\n",
    ),
    Mutant(
        name="a wait's clock is Vertex AI's",
        file="domain/planning.py",
        old="    left = timing.second_read_seconds - (now - job.failure_seen_at).total_seconds()",
        new="    seen = operation.updated_at or now\n"
        "    left = timing.second_read_seconds - (now - seen).total_seconds()",
    ),
    Mutant(
        name="the clamp of waits is dropped",
        file="domain/timing.py",
        old="timedelta(seconds=min(max(seconds, 0), self.max_wait_seconds))",
        new="timedelta(seconds=seconds)",
    ),
    Mutant(
        name="a clock that jumped is believed",
        file="engine/steady_clock.py",
        old="        if abs(moved) > self.max_skew:",
        new="        if False:",
    ),
    Mutant(
        name="after_restore does nothing",
        file="domain/job.py",
        old="        call, late = self.call, timedelta()\n",
        new="        if self.key:\n"
        "            return self\n"
        "        call, late = self.call, timedelta()\n",
    ),
    Mutant(
        name="a restored job calls without a look",
        file="engine/workflow.py",
        old="        if job.restored:\n            await self.save_and_run",
        new="        if False:\n            await self.save_and_run",
    ),
    Mutant(
        name="a restored job's failed operation is its last",
        file="domain/planning.py",
        old="    if job.restored:\n",
        new="    if False:\n",
    ),
    Mutant(
        name="what an operation made is not looked up among the claims",
        file="engine/vertex_reader.py",
        old="for operation in operations or () if operation.model}",
        new="for operation in () if operation.model}",
    ),
    Mutant(
        name="a model that somebody is still copying counts as there",
        file="engine/workflow.py",
        old="                running = any(not operation.done for operation in operations or ())",
        new="                running = False",
    ),
    Mutant(
        name="the queue ignores turns",
        file="domain/job.py",
        old="return (self.turn or 0.0, self.accepted_at, self.key)",
        new="return (0.0, self.accepted_at, self.key)",
    ),
    Mutant(
        name="the queue is overtaken",
        file="engine/start_queue.py",
        old="        if first and first[0].place < job.place:\n",
        new="        if False:\n",
    ),
    Mutant(
        name="a burst gets one turn",
        file="engine/start_queue.py",
        old="            turn = max(turn, last[0] + cost)\n",
        new="            turn = max(turn, last[0])\n",
    ),
    Mutant(
        name="starts have no limit",
        file="engine/start_queue.py",
        old="        return await self.store.take_starts(queue, turns, now, rate, burst)",
        new="        return min(len(turns), rate)",
    ),
    Mutant(
        name="a cancel is told before it is confirmed",
        file="engine/workflow.py",
        old="        await self._look_again(job.unfinished(now), call.requested_at)",
        new="        if job.cancel_requested and job.state is State.COPYING:\n"
        "            await self.persist(job.with_nothing_made().cancelled(now))\n"
        "            return\n"
        "        await self._look_again(job.unfinished(now), call.requested_at)",
    ),
    Mutant(
        name="any operation on the destination is cancelled",
        file="engine/workflow.py",
        old="            case InProgress():\n                await self._wait_for_end(job, now)",
        new="            case InProgress():\n"
        "                for each in await self.models.list_operations(job.target) or ():\n"
        "                    await self.models.cancel_operation(each.name)\n"
        "                await self._wait_for_end(job, now)",
    ),
    Mutant(
        name="the reply is sent before the letter",
        file="engine/workflow.py",
        old="            if job.failure and not job.letter_kept:\n"
        "                await self.topics.publish_letter(letter_of_job(job))\n"
        "                job = await self.save(job.with_letter_kept(self.clock.now()))\n"
        "            await self.topics.publish_reply(replies.outcome(job, self.service_name))\n"
        "            await self.save(job.announced(self.clock.now()))",
        new="            await self.topics.publish_reply(replies.outcome(job, self.service_name))\n"
        "            job = await self.save(job.announced(self.clock.now()))\n"
        "            if job.failure and not job.letter_kept:\n"
        "                await self.topics.publish_letter(letter_of_job(job))\n"
        "                job = await self.save(job.with_letter_kept(self.clock.now()))",
    ),
    Mutant(
        name="the reply counts as sent before it is",
        file="engine/workflow.py",
        old="            await self.topics.publish_reply(replies.outcome(job, self.service_name))\n"
        "            await self.save(job.announced(self.clock.now()))",
        new="            job = await self.save(job.announced(self.clock.now()))\n"
        "            await self.topics.publish_reply(replies.outcome(job, self.service_name))",
    ),
    Mutant(
        name="an event gets a new id each time",
        file="domain/job.py",
        old='        return f"{self.key}-{self.run}"',
        new='        return f"{self.key}-{self.run}-{self.version}"',
    ),
    Mutant(
        name="any letter is replayed, also an old one",
        file="domain/job.py",
        old="            self.outcome_id == replay_of or (",
        new="            bool(replay_of) or (",
    ),
    Mutant(
        name="a replay may go elsewhere while a call is open",
        file="engine/request_handler.py",
        old="        if job.call and copy.goes_elsewhere(job.request):",
        new="        if False:",
    ),
    Mutant(
        name="a replay of an unknown outcome without its record copies",
        file="engine/request_handler.py",
        old="        if received.outcome_unknown and await self._stored(asked.identity) is None:",
        new="        if False:",
    ),
    Mutant(
        name="a replay swallows an outcome that was not told",
        file="engine/request_handler.py",
        old="        if not job.reply_sent:\n            # The letter",
        new="        if False:\n            # The letter",
    ),
    Mutant(
        name="a replay that was beaten is taken for the one that beat it",
        file="engine/request_handler.py",
        old="            return await self._handle_duplicate(asked, received, told)\n"
        "        return replace(told, verdict=Disposition.REPLAYED",
        new="            return replace(told, verdict=Disposition.DUPLICATE)\n"
        "        return replace(told, verdict=Disposition.REPLAYED",
    ),
    Mutant(
        name="a rejected request is acknowledged without a letter",
        file="engine/request_handler.py",
        old="        if keep and not may_pass:",
        new="        if False:",
    ),
    Mutant(
        name="an outage counts as a bug",
        file="engine/workflow.py",
        old="            return  # a decision that lost the race; whoever won it carries on\n"
        "        except UnavailableError as error:\n",
        new="            return  # a decision that lost the race; whoever won it carries on\n"
        "        except ZeroDivisionError as error:\n",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """How a mutant fared."""

    histories: int  # that it lived
    found: str  # what gave it away; "" when it survived
    clue: str = ""  # where to look first the next time: a seed, or a test


def clues() -> dict[str, str]:
    """Return what found each mutant when ``make mutants`` last looked, by name."""
    found: dict[str, str] = json.loads(CLUES.read_text())
    return found


def hunt(
    mutant: Mutant | None, *, seed: int = 1, most: int = MOST_HISTORIES, clue: str = ""
) -> Fate:
    """Let the mutant (or the engine as it is) live histories until one goes wrong.

    ``clue`` is tried before all others; it is only a hint, and may be wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        if mutant:
            mutant.put_into(Path(folder))
        if clue.isdigit() and (fate := _live(folder, seed=int(clue), most=1)):
            return fate
        if "::" in clue and (fate := _tell(folder, [clue])):
            return fate
        return (
            _live(folder, seed=seed, most=most)
            or _tell(folder, STORIES)
            or Fate(histories=most, found="")
        )


def _live(folder: str, *, seed: int, most: int) -> Fate | None:
    soak = "tests/model/soak.py", "--first", "--count", str(most), "--seed", str(seed)
    lived = _run(folder, *soak)
    if lived.returncode == 0:
        return None
    last = (lived.stdout or lived.stderr).strip().rpartition("\n")[2]
    count, _, what = last.partition("\t")
    if not what:
        return Fate(histories=0, found=f"crash: {last}", clue=str(seed))
    return Fate(histories=int(count), found=what, clue=str(seed + int(count) - 1))


def _tell(folder: str, stories: Sequence[str]) -> Fate | None:
    told = _run(folder, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *stories)
    failed = [line for line in told.stdout.splitlines() if line.startswith("FAILED")]
    if not failed:
        return None
    test = failed[0].removeprefix("FAILED ").partition(" - ")[0]
    return Fate(histories=0, found=f"story: {test.rpartition('::')[2]}", clue=test)


def _run(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the engine of this folder in front of the real one."""
    return subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Break each rule of the engine, and see.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=MOST_HISTORIES, help="histories for each")
    parser.add_argument("--name", default="", help="only mutants whose name has this")
    asked = parser.parse_args(arguments)
    mutants = [mutant for mutant in MUTANTS if asked.name in mutant.name]
    survived, found = 0, clues() if CLUES.exists() else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fates = pool.map(lambda each: hunt(each, seed=asked.seed, most=asked.most), mutants)
        for mutant, fate in zip(mutants, fates, strict=True):
            survived += not fate.found
            found[mutant.name] = fate.clue
            told = fate.found[:60] or "SURVIVED"
            print(f"{fate.histories:6,d}  {mutant.name:58}  {told}", flush=True)
    kept = {mutant.name: found[mutant.name] for mutant in MUTANTS if found.get(mutant.name)}
    CLUES.write_text(json.dumps(kept, indent=2) + "\n")
    print(f"{len(mutants)} mutants, {survived} survived; clues are in {CLUES.relative_to(ROOT)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
