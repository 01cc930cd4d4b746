"""Mutants of the engine's rules, and what finds them: ``make mutants``.

Each is the engine with one rule broken, as a slip of the pen would break it. It is put in
front of the real one and lives the same random histories; where those do not find it in
time, because it takes three rare things at once, the stories told by hand must. A rule
that nobody misses when it is gone is either not tried or not needed.
"""

import argparse
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
MOST_HISTORIES = 3000
STORIES = [f"tests/unit/test_{name}.py" for name in ("plan", "workflow", "asking_again", "ticks")]


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
        name="the lease is not checked before asking",
        file="workflow.py",
        old="if latest + timedelta(seconds=self.timing.call + self.timing.max_skew) > job.due_at:",
        new="if False:",
    ),
    Mutant(
        name="the lease is not saved before a step",
        file="workflow.py",
        old="            job = await self.store.save(job.leased(self.clock.now(), self.timing))\n"
        "        except (StaleJobError, UnavailableError):",
        new="            pass\n        except (StaleJobError, UnavailableError):",
    ),
    Mutant(
        name="a destination is not held",
        file="job.py",
        old="return str(self.target) if self.holds_destination else None",
        new="return None",
    ),
    Mutant(
        name="a destination is not handed on",
        file="workflow.py",
        old="            if not waiting:\n",
        new="            if waiting:\n",
    ),
    Mutant(
        name="whoever came last is next",
        file="workflow.py",
        old="            first = min(waiting,",
        new="            first = max(waiting,",
    ),
    Mutant(
        name="an unknown outcome counts as not started",
        file="workflow.py",
        old="                job.waiting(self.clock.now(), self.timing.backoff(0, self.jitter()))",
        new='                job.not_asked(self.clock.now(), "").waiting(self.clock.now(), 2)',
    ),
    Mutant(
        name="UNAVAILABLE counts as not started",
        file="errors.py",
        old="if code is Code.RESOURCE_EXHAUSTED:",
        new="if code in {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}:",
    ),
    Mutant(
        name="ALREADY_EXISTS counts as refused",
        file="errors.py",
        old="        Code.OUT_OF_RANGE,\n        Code.UNIMPLEMENTED,",
        new="        Code.OUT_OF_RANGE,\n        Code.UNIMPLEMENTED,\n        Code.ALREADY_EXISTS,",
    ),
    Mutant(
        name="the ask is forgotten on replay",
        file="job.py",
        old="state=State.COPYING if self.asked_at and self.operation else State.ACCEPTED,",
        new="state=State.ACCEPTED, asked_at=None, known_versions=(),",
    ),
    Mutant(
        name="a replay has only the attempts that were left",
        file="job.py",
        old="            copy_attempts=1 if self.asked_at else 0,\n",
        new="",
    ),
    Mutant(
        name="the ask is forgotten when a job is given up",
        file="plan.py",
        old="    return job.failed(now, failure)\n",
        new="    job = job.with_nothing_made() if job.operation else job\n"
        "    return job.failed(now, failure)\n",
    ),
    Mutant(
        name="a job that is given up says that nothing was made",
        file="plan.py",
        old='return "whether a copy was made is unknown" if job.asked_at else "nothing was made"',
        new='return "nothing was made"',
    ),
    Mutant(
        name="an operation that is forgotten counts as failed",
        file="workflow.py",
        old="            await self._reconcile(job)  # forgotten, or not to be seen yet",
        new="            now = self.clock.now()\n"
        '            await self.store.save(job.not_asked(now, "").waiting(now, 5))',
    ),
    Mutant(
        name="any new version is taken for ours",
        file="plan.py",
        old="(model for model in new if job.source.is_origin(model.copy_of))",
        new="(model for model in new)",
    ),
    Mutant(
        name="versions that were there before count as new",
        file="plan.py",
        old="    old = ({*job.known_versions} | operations.made_by_others) - ours",
        new="    old = operations.made_by_others - ours",
    ),
    Mutant(
        name="versions that others were told of are claimed too",
        file="plan.py",
        old="    claims = _claims(job, seen)",
        new="    claims: dict[str | None, Job] = {}",
    ),
    Mutant(
        name="an operation that was answered to another is taken for ours",
        file="plan.py",
        old="if is_anothers or not _began_as_asked(",
        new="if not _began_as_asked(",
    ),
    Mutant(
        name="an operation that another may have begun is taken for ours",
        file="plan.py",
        old="    ours = made.keys() - operations.shared - claims.keys()",
        new="    ours = made.keys() - claims.keys()",
    ),
    Mutant(
        name="a running operation is not waited for",
        file="plan.py",
        old="if not operation.done and _began_since(job, operation, timing):",
        new="if False:",
    ),
    Mutant(
        name="what an operation made need not show",
        file="plan.py",
        old="        or not made.keys() <= shown\n",
        new="",
    ),
    Mutant(
        name="no grace before asking again",
        file="plan.py",
        old="    seconds = timing.grace\n",
        new="    seconds = 0.0\n",
    ),
    Mutant(
        name="one look is enough where no operation speaks",
        file="plan.py",
        old="    return found if job.quiet_since and now > job.quiet_since + hush else Quiet()",
        new="    return found",
    ),
    Mutant(
        name="where operations cannot be listed, the grace is enough",
        file="plan.py",
        old="    if seen.operations is None:\n",
        new="    if False:\n",
    ),
    Mutant(
        name="a destination is left before what came to nothing is gone",
        file="plan.py",
        old="    if (left := timing.hush - (now - ended_at).total_seconds()) > 0:\n",
        new="    if (left := 0.0) > 0:\n",
    ),
    Mutant(
        name="a number that was there before is never ours",
        file="plan.py",
        old="    old = ({*job.known_versions} | operations.made_by_others) - ours",
        new="    old = {*job.known_versions} | operations.made_by_others",
    ),
    Mutant(
        name="what an operation made is not asked for among the traces",
        file="looks.py",
        old="for operation in operations or () if operation.model}",
        new="for operation in () if operation.model}",
    ),
    Mutant(
        name="a model that somebody is still copying counts as there",
        file="looks.py",
        old="return any(not operation.done for operation in operations or ())",
        new="return False",
    ),
    Mutant(
        name="a cancel is told before it is confirmed",
        file="workflow.py",
        old="        await self._wait(job.seen(), job.copy_started_at or job.attempt_at)",
        new="        if job.cancel_requested:\n"
        "            await self.keep(job.with_nothing_made().cancelled(now))\n"
        "            return\n"
        "        await self._wait(job.seen(), job.copy_started_at or job.attempt_at)",
    ),
    Mutant(
        name="any operation on the destination is cancelled",
        file="workflow.py",
        old="                await self._watch(job, now)\n            case Unclear()",
        new="                for each in await self.models.list_operations(job.target) or ():\n"
        "                    await self.models.cancel_operation(each.name)\n"
        "                await self._watch(job, now)\n            case Unclear()",
    ),
    Mutant(
        name="the reply is sent before the letter",
        file="workflow.py",
        old="            if job.failure and not job.letter_kept:\n"
        "                await self.topics.publish_letter(letter_of_job(job))\n"
        "                job = await self.store.save(job.with_letter_kept(self.clock.now()))\n"
        "            await self.topics.publish_reply(replies.outcome(job, self.service_name))\n"
        "            await self.store.save(job.announced(self.clock.now()))",
        new="            await self.topics.publish_reply(replies.outcome(job, self.service_name))\n"
        "            job = await self.store.save(job.announced(self.clock.now()))\n"
        "            if job.failure and not job.letter_kept:\n"
        "                await self.topics.publish_letter(letter_of_job(job))\n"
        "                job = await self.store.save(job.with_letter_kept(self.clock.now()))",
    ),
    Mutant(
        name="the reply counts as sent before it is",
        file="workflow.py",
        old="            await self.topics.publish_reply(replies.outcome(job, self.service_name))\n"
        "            await self.store.save(job.announced(self.clock.now()))",
        new="            job = await self.store.save(job.announced(self.clock.now()))\n"
        "            await self.topics.publish_reply(replies.outcome(job, self.service_name))",
    ),
    Mutant(
        name="an event gets a new id each time",
        file="job.py",
        old='        return f"{self.key}-{self.attempt}"',
        new='        return f"{self.key}-{self.attempt}-{self.version}"',
    ),
    Mutant(
        name="any letter is replayed, also an old one",
        file="job.py",
        old="            self.outcome_id == replay_of or (",
        new="            bool(replay_of) or (",
    ),
    Mutant(
        name="a replay may go elsewhere while an ask is open",
        file="deliveries.py",
        old="        if job.asked_at and asked.copy.goes_elsewhere(job.request):",
        new="        if False:",
    ),
    Mutant(
        name="a replay swallows an outcome that was not told",
        file="deliveries.py",
        old="        if not job.reply_sent:\n            # The letter",
        new="        if False:\n            # The letter",
    ),
    Mutant(
        name="a replay that was beaten is taken for the one that beat it",
        file="deliveries.py",
        old="            return await self._meet_again(asked, received, told)\n"
        '        return replace(told, verdict="replayed")',
        new='            return replace(told, verdict="duplicate")\n'
        '        return replace(told, verdict="replayed")',
    ),
    Mutant(
        name="a rejected request is acknowledged without a letter",
        file="deliveries.py",
        old="        if keep:\n            await self.workflow.topics.publish_letter",
        new="        if False:\n            await self.workflow.topics.publish_letter",
    ),
    Mutant(
        name="an outage counts as a bug",
        file="workflow.py",
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


def hunt(mutant: Mutant | None, *, seed: int = 1, most: int = MOST_HISTORIES) -> Fate:
    """Let the mutant (or the engine as it is) live histories until one goes wrong."""
    with tempfile.TemporaryDirectory() as folder:
        if mutant:
            mutant.put_into(Path(folder))
        soak = "tests/model/soak.py", "--first", "--count", str(most), "--seed", str(seed)
        lived = _run(folder, *soak)
        last = (lived.stdout or lived.stderr).strip().rpartition("\n")[2]
        count, _, what = last.partition("\t")
        if lived.returncode != 0:
            return Fate(histories=int(count) if what else 0, found=what or f"crash: {last}")
        told = _run(folder, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *STORIES)
        failed = [line for line in told.stdout.splitlines() if line.startswith("FAILED")]
        story = failed[0].rpartition("::")[2].partition(" - ")[0] if failed else ""
        return Fate(histories=most, found=story and f"story: {story}")


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
    survived = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fates = pool.map(lambda each: hunt(each, seed=asked.seed, most=asked.most), mutants)
        for mutant, fate in zip(mutants, fates, strict=True):
            survived += not fate.found
            told = fate.found[:60] or "SURVIVED"
            print(f"{fate.histories:6,d}  {mutant.name:58}  {told}", flush=True)
    print(f"{len(mutants)} mutants, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
