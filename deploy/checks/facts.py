"""What the Google provider takes, from its published type declarations: ``make provider-facts``.

Run by hand where npm and its registry are, and committed as ``provider_facts.json``, so that
``make check-deploy`` needs neither. The npm package is generated from the provider's own
schema; of it we keep the names and kinds of what our configuration uses, nothing else.

An argument is its type, with ``!`` where it is required. A block is a list of two: how many
there may be (``1``, ``?`` at most one, ``*`` any, ``+`` at least one), and what it holds.
"""

import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from deploy.checks.configuration import Configuration

PACKAGE = "@cdktf/provider-google"
VERSION = "16.12.1"
HERE = Path(__file__).parent
FACTS = HERE / "provider_facts.json"
_INTERFACE = re.compile(
    r"export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)^\}", re.MULTILINE | re.DOTALL
)
# The name as Terraform writes it stands behind the # of the link in each comment.
_FIELD = re.compile(
    r"\{@link \S+#(\w+) [^}]*\}(?:(?!\*/).)*\*/\s*readonly \w+(\??): ([^;]+);", re.DOTALL
)
_ANY_FIELD = re.compile(r"^    readonly ", re.MULTILINE)
_PROVIDER = re.compile(r"/providers/hashicorp/google/([\d.]+)/docs")
_GETTER = re.compile(r"^    get (\w+)\(\):", re.MULTILINE)
_CLASS = re.compile(r"export declare class \w+ extends cdktf\.Terraform(?:Resource|DataSource) \{")
_SIMPLE = {
    "string": "string",
    "number": "number",
    "boolean | cdktf.IResolvable": "bool",
    "string[]": "list(string)",
    "number[]": "list(number)",
}


def main() -> None:
    """Write the facts anew for what the configuration uses now."""
    configuration = Configuration.read(HERE.parent / "terraform")
    with tempfile.TemporaryDirectory() as folder:
        archive, integrity = _fetch(Path(folder))
        used = sorted({(b.kind, b.type) for kind in ("resource", "data")
                       for b in configuration.of(kind)})  # fmt: skip
        found, provider = {}, ""
        with tarfile.open(archive) as package:
            for kind, type_ in used:
                prefix = "data-google-" if kind == "data" else ""
                name = prefix + type_.removeprefix("google_").replace("_", "-")
                try:
                    member = package.extractfile(f"package/lib/{name}/index.d.ts")
                except KeyError:
                    sys.exit(f"{PACKAGE} {VERSION} knows no {kind} {type_}")
                assert member is not None
                declared = io.TextIOWrapper(member, encoding="utf-8").read()
                provider = provider or _PROVIDER.findall(declared)[0]
                found[f"{kind} {type_}"] = _facts(declared)
    facts = {
        "source": f"npm {PACKAGE} {VERSION}",
        "integrity": integrity,
        "provider": f"hashicorp/google {provider}",
        "known": found,
    }
    FACTS.write_text(_lines(facts), encoding="utf-8")
    sys.stdout.write(f"{FACTS.name}: {len(found)} of {facts['source']}, {facts['provider']}\n")


def _fetch(folder: Path) -> tuple[Path, str]:
    packed = subprocess.run(
        ["npm", "pack", f"{PACKAGE}@{VERSION}", "--json", f"--pack-destination={folder}"],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    )
    [about] = json.loads(packed.stdout)
    [archive] = folder.glob("*.tgz")
    return archive, about["integrity"]


def _facts(declared: str) -> dict[str, Any]:
    interfaces = dict(_INTERFACE.findall(declared))
    [start] = list(_CLASS.finditer(declared))
    class_ = declared[start.end() :]
    [config] = [name for name in interfaces if (name.endswith("Config")
                and f"config: {name}" in class_) or f"config?: {name}" in class_]  # fmt: skip
    read = {_snake(name) for name in _GETTER.findall(class_) if not name.endswith("Input")}
    return {"takes": _fields(config, interfaces), "gives": " ".join(sorted(read))}


def _fields(interface: str, interfaces: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    declared = _FIELD.findall(interfaces[interface])
    assert len(declared) == len(_ANY_FIELD.findall(interfaces[interface])), interface
    for name, optional, type_ in declared:
        if name == "id":  # cdktf adds it everywhere; Terraform takes it nowhere
            continue
        struct = re.match(r"(\w+)(\[\])?", type_)
        if struct and struct[1] in interfaces:
            many = "[]" in type_
            count = {(True, True): "*", (True, False): "+", (False, True): "?", (False, False): "1"}
            held = _fields(struct[1], interfaces)
            fields[name] = [count[many, bool(optional)], held]
            continue
        simple = _SIMPLE.get(type_) or ("map" if type_.startswith("{") else "any")
        fields[name] = simple + ("" if optional else "!")
    return fields


def _lines(facts: dict[str, Any]) -> str:
    """One line for each resource: a change of one is a change of one line."""
    known = facts.pop("known")
    about = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    each = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(known.items())]
    return "{\n" + ",\n".join([*about, '"known": {\n' + ",\n".join(each) + "\n}"]) + "\n}\n"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


if __name__ == "__main__":
    main()
