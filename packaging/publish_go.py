"""Publishes the Go modules of target/packages/go: publish_go.py [REMOTE]. They are tags, as Go wants them, of a commit that is on no
branch, so that clones of a branch do not have the natives in it. GO_REPOSITORY_TOKEN, if there is one, is what a remote with https is told."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from golang import PATH, PROXY
from platforms import ROOT, VERSION, run

# The module's folder in the repository; GitHub's paths have three parts before it.
FOLDER = PATH.split("/", 3)[3]
AUTHOR = ["-c", "user.name=The libqwenguard authors", "-c", "user.email=libqwenguard@users.noreply.github.com"]
TOKEN = "GO_REPOSITORY_TOKEN"
# Git's shell reads the token, so that no command line and no message has it.
HELPER = f'!printf "username=x-access-token\\npassword=%s\\n" "${TOKEN}"; :'


def credentials(remote: str) -> list[str]:
    """The token instead of what this machine knows of the remote, where there is one."""
    wanted = remote.startswith("https://") and os.environ.get(TOKEN)
    return ["-c", "credential.helper=", "-c", f"credential.helper={HELPER}"] if wanted else []


def modules() -> dict[str, Path]:
    """Folders in the repository, with the archive of each."""
    found = {}
    for archive in sorted(PROXY.rglob(f"v{VERSION}.zip")):
        module = archive.parent.parent.relative_to(PROXY).as_posix()
        found[FOLDER + module.removeprefix(PATH)] = archive
    return found


def unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            file = folder / name.split(f"@v{VERSION}/", 1)[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed.read(name))


def publish(remote: str) -> list[str]:
    """The tags that the remote has now."""
    found = modules()
    if FOLDER not in found:
        raise SystemExit(f"{PROXY} has no module {PATH} v{VERSION}: make gomodules")
    with tempfile.TemporaryDirectory() as folder:
        run("git", "init", "--quiet", folder)
        for name, archive in found.items():
            unpack(archive, Path(folder) / name)
        run("git", "add", "--all", cwd=folder)
        run("git", *AUTHOR, "commit", "--quiet", "-m", f"Go modules {VERSION}", cwd=folder)
        tags = [f"{name}/v{VERSION}" for name in found]
        for tag in tags:
            run("git", "tag", tag, cwd=folder)
        run("git", *credentials(remote), "push", "--quiet", remote, *(f"refs/tags/{tag}" for tag in tags), cwd=folder,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0"})
    return tags


def main() -> None:
    remote = sys.argv[1] if len(sys.argv) > 1 else subprocess.run(
        ["git", "remote", "get-url", "origin"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    print("\n".join(publish(remote)))


if __name__ == "__main__":
    main()
