"""Performs the Dockerfile's own steps in a clean environment, and starts what it makes.

No container engine is needed: each stage gets a Python of its own in the place of the base
image, and ``/copier`` is a temporary folder. What comes of that is then started by the
Dockerfile's CMD, as its USER where that user can reach this machine's Python, and pushed to.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from deploy.checks.image import Dockerfile, Instruction

from local_cloud.cloud import LocalCloud
from local_cloud.topics import PROJECT, REQUESTS, Topics, subscription_path

ROOT = Path(__file__).parents[1]
PLACE = "/copier"
WITHIN_SECONDS = 5.0
MODEL = "projects/gemini-fine-tuning-source/locations/us-central1/models/7704127342733426688"
REQUEST = {"source_model_id": MODEL, "destination_model_id": "tried"}
PUSH = {
    "message": {
        "data": base64.b64encode(json.dumps(REQUEST).encode()).decode(),
        "messageId": "1",
        "publishTime": "2026-02-13T09:00:00Z",
    },
    "subscription": subscription_path(REQUESTS),
}


@dataclass(kw_only=True)
class Image:
    """Where the steps are performed: ``folder/copier`` stands for ``/copier``."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    user: int = 0
    command: Sequence[str] = ()

    @property
    def place(self) -> Path:
        return self.folder / PLACE.strip("/")

    def build(self, dockerfile: Dockerfile) -> None:
        for number, stage in enumerate(dockerfile.stages):
            self._begin(number)
            for instruction in stage:
                self._perform(instruction)
        self.command = [self._here(part) for part in dockerfile.command]

    def _begin(self, number: int) -> None:
        """Start a stage: an empty place, and a Python that nothing was installed into."""
        base = self.folder / f"base-{number}"
        subprocess.run([sys.executable, "-m", "venv", base], check=True)
        self.env = {
            "PATH": f"{base}/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            # How this machine reaches its packages is no part of the image.
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        }
        if self.place.exists():
            self.place.rename(self.folder / f"stage-{number - 1}")
        self.place.mkdir()

    def _perform(self, instruction: Instruction) -> None:
        text = self._here(instruction.text)
        match instruction.name:
            case "RUN":
                subprocess.run(["/bin/sh", "-ec", text], env=self.env, cwd=self.place, check=True)
            case "COPY":
                self._copy(instruction.text)
            case "ENV":
                for setting in shlex.split(text):
                    name, _, value = setting.partition("=")
                    self.env[name] = value.replace("$PATH", self.env["PATH"])
            case "USER":
                self.user = int(instruction.text.split(":")[0])
            case "WORKDIR":
                assert text == str(self.place), f"WORKDIR should be {PLACE}"
            case "FROM" | "ARG" | "LABEL" | "CMD":
                pass
            case other:
                raise AssertionError(f"cannot perform {other}: tests/try_image.py should learn it")

    def _copy(self, text: str) -> None:
        *options, source, target = text.split()
        if options:
            # Of an earlier stage the whole place is taken, so that paths within it stay right.
            assert (options, source, target) == (["--from=build"], PLACE, PLACE)
            self.place.rmdir()
            shutil.copytree(self.folder / "stage-0" / "", self.place, symlinks=True)
            return
        here, there = ROOT / source, Path(self._here(target))
        there = there / here.name if target.endswith("/") else there
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir():
            shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(here, there)

    def _here(self, text: str) -> str:
        return re.sub(rf"(?<![\w./]){PLACE}\b", str(self.place), text)

    # What was made

    def reachable(self) -> bool:
        """Say whether the image's user can run this machine's Python at all."""
        if os.getuid():
            return False
        python = [str(self.place / "venv/bin/python"), "-c", ""]
        try:
            subprocess.run(python, env=self.env, user=self.user, group=self.user, check=True)
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True

    def start(self, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        who = self.user if self.reachable() else None
        program = shutil.which(self.command[0], path=self.env["PATH"])
        assert program, f"CMD: {self.command[0]} is not in the image"
        return subprocess.Popen(
            [program, *self.command[1:]],
            env={**self.env, **settings},
            cwd=self.place,
            start_new_session=True,
            user=who,
            group=who,
        )

    def check(self) -> Sequence[str]:
        """Say what is in the image that should not be, or is not that should be."""
        wrong = []
        sources = [p for p in self.place.rglob("*.py") if "lib2to3" not in p.parts]
        cold = [p for p in sources if not _compiled(p)]
        # Templates and tests for other Pythons do not compile; a program's own modules do.
        if len(cold) > len(sources) / 100 or any("model_copier" in p.parts for p in cold):
            wrong.append(f"not compiled: {len(cold)} of {len(sources)}, such as {cold[0]}")
        for python in (self.place / "venv/bin/python", self.folder / "base-1/bin/python"):
            asked = [str(python), "-m", "pip", "--version"]
            found = subprocess.run(asked, capture_output=True, check=False)
            if not found.returncode:
                wrong.append(f"{python} has pip")
        return wrong


def _compiled(source: Path) -> bool:
    return any((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"))


async def answered_after(image: Image) -> float:
    """Start the image, push to it, and return after how many seconds it had answered 204."""
    async with LocalCloud() as cloud:
        cloud.vertex.add_model(MODEL, display_name="gemini-tuned")
        topics = Topics(address=cloud.pubsub.address)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await topics.create(worker_url="http://127.0.0.1:9")
        jobs = image.folder / "jobs"
        jobs.mkdir()
        os.chmod(jobs, 0o777)  # noqa: PTH101  of the image's user
        settings = {
            "FUNCTION_TARGET": "worker",
            "PORT": str(port),
            "SOURCE_PROJECT": "gemini-fine-tuning-source",
            "TARGET_PROJECT": PROJECT,
            "STORE": f"sqlite:///{jobs}/jobs.db",
            "TOKEN_CHECKS": "none",
            "HOST": "127.0.0.1",
            "PUBSUB_EMULATOR_HOST": cloud.pubsub.address,
            "VERTEX_ENDPOINT": f"http://{cloud.vertex.address}",
        }
        started = time.monotonic()
        process = image.start(settings)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                await _push(client, process, until=started + 6 * WITHIN_SECONDS)
            return time.monotonic() - started
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)
            await topics.close()


async def _push(
    client: httpx.AsyncClient, process: subprocess.Popen[bytes], *, until: float
) -> None:
    while True:
        try:
            answer = await client.post("/pubsub/requests", json=PUSH, timeout=30)
        except httpx.ConnectError:
            assert process.poll() is None, f"CMD ended by itself with {process.returncode}"
            assert time.monotonic() < until, "nothing listens"
            await asyncio.sleep(0.02)
            continue
        assert answer.status_code == 204, f"{answer.status_code}: {answer.text}"
        return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--within", type=float, default=WITHIN_SECONDS, help="seconds, to answer")
    within = parser.parse_args().within
    with tempfile.TemporaryDirectory(prefix="model-copier-image-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        image = Image(folder=folder)
        began = time.monotonic()
        image.build(Dockerfile.read(ROOT / "deploy/Dockerfile"))
        print(f"built       {time.monotonic() - began:.1f} s, by the Dockerfile's RUN and COPY")
        wrong = image.check()
        print(f"inside      {'; '.join(wrong) or 'bytecode compiled, no pip'}")
        who = f"user {image.user}"
        if not image.reachable():
            who = f"this user ({who} cannot reach this machine's Python)"
        print(f"started as  {who}: {' '.join(image.command)}")
        seconds = asyncio.run(answered_after(image))
        print(
            f"answered    a push with 204, {seconds:.1f} s after the start (at most {within:g} s)"
        )
        return 1 if wrong or seconds > within else 0


if __name__ == "__main__":
    sys.exit(main())
