"""Reports about machines that run ``model-copy``: AWS, containers, proxies, files, signals."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

from google.auth import jwt

from federation import ACCOUNT, federation
from local_cloud.stack import SOURCE_MODEL
from local_cloud.tokens import TokenSigner
from trials.ground import MODEL_COPY, ROOT, Ground, says, says_not, trial

COPY = ("publish", f"{SOURCE_MODEL}@1", "by-federation", "--project", "team-models")
CHECK = ("publish", SOURCE_MODEL, "--validate-only", "--wait")


def plays(on: Ground, name: str) -> Path:
    folder = on.folder / name
    folder.mkdir()
    return folder


@trial(
    11,
    "googleapis/google-auth-library-python#1364",
    "a machine without a role is told of instance profiles, not of a grant",
)
async def no_role(on: Ground) -> None:
    async with federation(plays(on, "no-role")) as cloud:
        setattr(cloud, "instance_says", (404, "no role"))  # noqa: B010  not in every version
        told = await on.cli(*COPY, **cloud.env)

    assert told.code == 4, told.all
    says(told.errors.lower(), "instance profile")
    says_not(told.errors, "add-iam-policy-binding")


@trial(15, "grpc/grpc#29718", "a proxy is never asked for this machine")
async def proxy_eats_loopback(on: Ground) -> None:
    proxy = "http://127.0.0.1:9"
    told = await on.ended(
        *(sys.executable, "-m", "local_cloud", "demo", "--copy-seconds", "0.2"),
        http_proxy=proxy,
        https_proxy=proxy,
        no_proxy="localhost",
        NO_PROXY="localhost",
    )

    assert told.code == 0, told.all


@trial(
    16,
    "googleapis/google-auth-library-ruby#354",
    "a role on AWS gets an ID token with its email",
)
async def id_token(on: Ground) -> None:
    signer = TokenSigner(clock=time.time)

    def mint(account: str, audience: str, *, with_email: bool) -> str:
        claims = {} if with_email else {"email": None}
        return signer.mint(email=account, audience=audience, claims=claims)

    async with federation(plays(on, "id-token")) as cloud:
        cloud.mint = mint
        told = await on.cli("token", "--audience", "https://api.example", **cloud.env)

    assert told.code == 0, told.all
    claims = jwt.decode(told.out.strip(), verify=False)
    assert (claims["aud"], claims["email"]) == ("https://api.example", ACCOUNT)


@trial(17, "airbytehq/airbyte#18513", "no example installs a name that nobody owns")
async def unclaimed_name(on: Ground) -> None:
    del on
    for file in [*ROOT.glob("publisher/examples/*"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]:
        for line in file.read_text().splitlines():
            bare = re.search(r"pip install[^#]*model-copy-publisher(?!.*(?: @ |\.whl))", line)
            assert not bare, f"{file.name}: {line.strip()}"


@trial(19, "apple/containerization#103", "without HOME there is no settings file, and no traceback")
async def no_home(on: Ground) -> None:
    nobody = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    can = shutil.which("setpriv") and os.getuid() == 0
    told = await on.ended(*("env", "-u", "HOME", *(nobody if can else ())), MODEL_COPY, *CHECK)

    says_not(told.errors, "Traceback")
    assert told.code == 0, told.all


@trial(
    20,
    "googleapis/google-auth-library-python#1099",
    "the role of a container is found where there is no instance metadata",
)
async def container_role(on: Ground) -> None:
    async with federation(plays(on, "container")) as cloud:
        told = await on.cli(
            *COPY,
            **cloud.env,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{cloud.plain}/container",
            AWS_CONTAINER_AUTHORIZATION_TOKEN="container-token",
            AWS_REGION="eu-west-1",
        )
        signed_by = cloud.signed_by

    assert told.code == 0, told.all
    assert signed_by == ["AKIACONTAINER"]


@trial(
    21,
    "buildkite/elastic-ci-stack-for-aws#857",
    "a metadata service that is silent, or away, is told as that: the hop limit, and no grant",
)
async def silent_metadata(on: Ground) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    async with federation(plays(on, "silent")) as cloud, server:
        env = cloud.env
        cloud.plain = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        cloud.credentials_file()
        silent = await on.cli(*COPY, **env)
        cloud.plain = "http://127.0.0.1:9"
        cloud.credentials_file()
        away = await on.cli(*COPY, **env)
        server.close()

    for told in (silent, away):
        assert told.code == 4, told.all
        says_not(told.errors, "Traceback", "add-iam-policy-binding")
    says(away.errors, "hop limit")


class Freezer:
    """A TCP proxy whose connections can be frozen; new ones work."""

    def __init__(self, address: str) -> None:
        self.host, _, self.port = address.partition(":")
        self.epoch = 0
        self._writers: list[asyncio.StreamWriter] = []

    def close(self) -> None:
        """Hang up on everybody, so that nothing is left open behind the trial."""
        for each in self._writers:
            each.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        epoch = self.epoch
        back, forth = await asyncio.open_connection(self.host, int(self.port))
        self._writers += [writer, forth]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while content := await source.read(65_536):
                    if epoch == self.epoch:  # frozen: what comes is swallowed
                        sink.write(content)
                        await sink.drain()

        async with asyncio.TaskGroup() as both:
            both.create_task(pump(reader, forth))
            both.create_task(pump(back, writer))


@trial(
    22,
    "googleapis/google-cloud-python#4083",
    "a wait whose connection died is told the outcome by a new one",
)
async def dead_connection(on: Ground) -> None:
    freezer = Freezer(on.stack.pubsub.address)
    server = await asyncio.start_server(freezer.serve, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        waiting = asyncio.create_task(
            on.cli(
                "publish",
                SOURCE_MODEL,
                "frozen",
                "--request-id",
                "frozen",
                "--wait",
                "--timeout",
                "180",
                PUBSUB_EMULATOR_HOST=address,
            )
        )
        await on.logged('"request_id": "frozen"')
        freezer.epoch += 1
        told = await waiting
        server.close()
        freezer.close()

    assert told.code == 0, told.all
    says(told.out, "succeeded")


@trial(23, "apache/airflow#41877", "a reply is JSON for whoever stores it")
async def reply_is_json(on: Ground) -> None:
    program = (
        "import json; from model_copy_publisher import CopyRequest, Publisher\n"
        "with Publisher(project='gemini-fine-tuning-target') as p:\n"
        f"    request = CopyRequest(source_model_id='{SOURCE_MODEL}',"
        " destination_model_id='xcom')\n"
        "    r = p.copy(request)\n"
        "    print(json.dumps({'ok': r.ok, **r.to_json()}))\n"
    )
    told = await on.ended(sys.executable, "-c", program)

    assert told.code == 0, told.all
    assert json.loads(told.out)["ok"] is True


@trial(24, "apache/airflow#39711", "a wait that begins after the reply needs no message of then")
async def late_wait(on: Ground) -> None:
    await on.ask({"destination_model_id": "late-wait"}, request_id="late-wait")

    told = await on.cli("wait", "late-wait", "--request-source", "//trials")

    assert told.code == 0, told.all


@trial(29, "googleapis/google-cloud-php#6061", "an emulator's address with a scheme is told")
async def scheme_in_address(on: Ground) -> None:
    for wrong in (f"http://{on.stack.pubsub.address}", f"{on.stack.pubsub.address}/"):
        told = await on.cli(*CHECK, PUBSUB_EMULATOR_HOST=wrong)
        assert told.code == 4, told.all
        says(told.errors, "PUBSUB_EMULATOR_HOST")
        says_not(told.errors, "Traceback")


@trial(35, "netbox-community/netbox#11954", "files of Excel are read, or told by line and column")
async def files_of_excel(on: Ground) -> None:
    header = "source_model_id,validate_only"
    row = f"{SOURCE_MODEL},true"
    good = f"{header}\n{row}\n".encode()
    for number, (data, code, words) in enumerate(
        (
            (b"\xef\xbb\xbf" + good, 0, ""),
            (good.replace(b"\n", b"\r\n"), 0, ""),
            (good.replace(b",", b";"), 2, "no comma"),
            (good.decode().encode("utf-16"), 2, ""),
            (good.replace(b"source_model_id", b"source_model"), 2, "did you mean source_model_id?"),
            (f"{header}\n7.7E+18,true\n".encode(), 2, "rounded by a spreadsheet"),
            (f"{header}\n{row},,\n".encode(), 2, "columns"),
        )
    ):
        file = on.folder / f"excel-{number}.csv"
        file.write_bytes(data)
        told = await on.cli("publish", "--from-file", str(file), "--wait", "--batch", f"x{number}")
        assert told.code == code, (data[:60], told.all)
        says(told.errors, words)
        says_not(told.errors, "Traceback")


@trial(45, "signals of CI", "SIGTERM ends a wait with 130, and says how to go on")
async def sigterm(on: Ground) -> None:
    process = await asyncio.create_subprocess_exec(
        *(MODEL_COPY, "publish", SOURCE_MODEL, "sigterm", "--request-id", "sigterm", "--wait"),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(on.folder),
            **on.stack.exports(),
            "MODEL_COPY_REPLY_TOPIC": "projects/gemini-fine-tuning-target/topics/model-copy-ticks",
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    await on.reply("sigterm")
    process.send_signal(signal.SIGTERM)
    _, errors = await process.communicate()

    assert process.returncode == 130, (process.returncode, errors)
    says(errors.decode(), "model-copy")


@trial(46, "full disks and closed pipes", "each has an exit code of its own, and never 1")
async def full_and_closed(on: Ground) -> None:
    full = await on.ended("sh", "-c", f"{MODEL_COPY} {' '.join(CHECK)} > /dev/full")
    closed = await on.ended("sh", "-c", f"{MODEL_COPY} {' '.join(CHECK)} >&-")
    rows = on.folder / "many.jsonl"
    line = json.dumps({"source_model_id": SOURCE_MODEL, "validate_only": True})
    ids = [json.dumps(json.loads(line) | {"request_id": f"many-{n}"}) for n in range(60)]
    rows.write_text("\n".join(ids))
    many = f"{MODEL_COPY} publish --from-file {rows} --wait --output json"
    cut = await on.ended("bash", "-c", f"set -o pipefail; {many} | head -n 1")
    korean = await on.cli("publish", SOURCE_MODEL, "모델", LC_ALL="C")

    assert full.code == 4, full.all
    assert closed.code == 0, closed.all
    assert cut.code in {0, 141}, cut.all
    assert korean.code == 2, korean.all
    says_not(full.errors + cut.errors + korean.errors, "Traceback")


@trial(47, "cron and SSM, which set no environment", "options alone are enough")
async def no_environment(on: Ground) -> None:
    exports = on.stack.exports()
    told = await on.ended(
        *("env", "-i", f"PUBSUB_EMULATOR_HOST={exports['PUBSUB_EMULATOR_HOST']}", MODEL_COPY),
        *(*CHECK, "--project", exports["MODEL_COPY_PROJECT"]),
    )

    assert told.code == 0, told.all
