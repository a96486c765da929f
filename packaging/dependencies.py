"""The crates that are compiled into the library and the program, from cargo's own metadata."""

import functools
import json
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from platforms import PLATFORMS, ROOT

# Sources in C that crates carry: crate, name, folder in the crate.
VENDORED = [("onig_sys", "oniguruma", "oniguruma")]


@dataclass
class Crate:
    name: str
    version: str
    license: str
    folder: Path
    authors: list[str]
    repository: str
    checksum: str  # SHA-256 of the archive in the registry; none for our own
    needs: list[str] = field(default_factory=list)  # ids

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    def texts(self) -> list[str]:
        """What the crate says of its licence, and its notices."""
        folders = [self.folder, *(self.folder / folder for crate, _, folder in VENDORED if crate == self.name)]
        files = sorted(
            file for folder in folders for file in folder.iterdir()
            if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"))
        )
        return [file.read_text(errors="replace").replace("\r\n", "\n").strip() for file in files]


def metadata(target: str) -> dict:
    said = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--features", "capi", "--filter-platform", target],
        cwd=ROOT, capture_output=True, text=True,
    )
    if said.returncode:
        raise SystemExit(said.stderr)
    return json.loads(said.stdout)


def compiled_in(graph: dict, roots: tuple[str, ...]) -> set[str]:
    """What is reached from packages of ours, without what only builds or tests. Macros run in the compiler, but what
    they depend on at run time does not exist, so they are left out as well."""
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    macros = {
        package["id"] for package in graph["packages"]
        if any("proc-macro" in target["kind"] for target in package["targets"])
    }
    found, waiting = set(), [package["id"] for package in graph["packages"]
                             if package["name"] in roots and package["id"] in graph["workspace_members"]]
    while waiting:
        package = waiting.pop()
        if package in found or package in macros:
            continue
        found.add(package)
        for need in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in need["dep_kinds"]):
                waiting.append(need["pkg"])
    return found


@functools.cache
def crates(*roots: str) -> dict[str, Crate]:
    """What is compiled into packages of ours, by default the library, the program and the wheel. By id, for all platforms together."""
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {f"{package['name']}@{package['version']}": package.get("checksum", "") for package in lock}
    found: dict[str, Crate] = {}
    for platform in PLATFORMS:
        graph = metadata(platform.rust)
        inside = compiled_in(graph, roots or ("qwenguard", "qwenguard-cli", "qwenguard-python"))
        ids = {package["id"]: f"{package['name']}@{package['version']}" for package in graph["packages"]}
        for package in graph["packages"]:
            key = ids[package["id"]]
            if package["id"] in inside and key not in found:
                found[key] = Crate(
                    package["name"], package["version"], (package["license"] or "").strip(), Path(package["manifest_path"]).parent,
                    package["authors"], package["repository"] or "", checksums[key],
                )
        for node in graph["resolve"]["nodes"]:
            if node["id"] in inside:
                crate = found[ids[node["id"]]]
                needs = {ids[need["pkg"]] for need in node["deps"] if need["pkg"] in inside
                         and any(kind["kind"] is None for kind in need["dep_kinds"])}
                crate.needs = sorted(needs.union(crate.needs))
    return dict(sorted(found.items()))
