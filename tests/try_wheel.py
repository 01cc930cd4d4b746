"""The publisher's wheel in an empty environment: ``make try-wheel``.

Builds it, installs it and what it needs and nothing else, and publishes to a local Pub/Sub.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from command_line import REQUESTS, WORKER, connected
from local_cloud.pubsub import PubSub

ROOT = Path(__file__).parents[1]
UV = str(Path(sys.executable).with_name("uv"))
# Whatever these are, somebody thought about them: each is named in the README.
NEEDED = {
    "click",
    "fastjsonschema",
    "google-auth",
    "grpcio",
    "protobuf",
    "requests",
    "rfc8785",
    "rich",
}


def run(*words: str) -> str:
    """Run to a good end, and return what was printed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def build(folder: Path) -> Path:
    """Build the wheel."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", str(folder), str(ROOT / "publisher"))
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, extra: str = "") -> Path:
    """Make an environment with nothing else in it; where its commands are."""
    run(UV, "venv", "--quiet", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    run(
        UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, f"{wheel}{extra}"
    )
    return folder / "bin"


async def publish(commands: Path) -> None:
    """Publish to a Pub/Sub of this machine, with nothing but the wheel."""
    async with PubSub() as pubsub, connected(pubsub.address) as service:
        await service.set_up()
        process = await asyncio.create_subprocess_exec(
            *(str(commands / "model-copy"), "publish", "7704127342733426688@1", "faker"),
            env={"PUBSUB_EMULATOR_HOST": pubsub.address, "MODEL_COPY_PROJECT": "team-models"},
        )
        assert await process.wait() == 0
        request = await service.request()
    assert request.data == (
        b'{"destination_model_id":"faker","source_model_id":"7704127342733426688@1"}'
    )
    print(f"published to {REQUESTS} and read from {WORKER}")


def main() -> None:
    """Build, install and try."""
    with tempfile.TemporaryDirectory(prefix="try-wheel-") as name:
        folder = Path(name)
        wheel = build(folder)
        commands = install(wheel, folder / "plain")
        print(f"{wheel.name}, {wheel.stat().st_size // 1024} KiB")
        print(run(str(commands / "model-copy"), "--version").strip())
        for command in ("publish", "wait", "status", "cancel", "watch", "config", "completion"):
            run(str(commands / "model-copy"), command, "--help")
        asyncio.run(publish(commands))
        frozen = run(UV, "pip", "freeze", "--python", str(commands / "python")).splitlines()
        names = {line.partition("==")[0] for line in frozen if "==" in line}
        assert names >= NEEDED, NEEDED - names
        print(f"{len(names)} packages: {', '.join(sorted(names))}")
        with_aws = install(wheel, folder / "aws", "[aws]")
        run(str(with_aws / "python"), "-c", "import model_copy_publisher.aws_role")
        print("the extra aws finds botocore")


if __name__ == "__main__":
    main()
