"""Makes the Go modules as they are released, and a folder that serves them (GOPROXY=file://).

In the repository the package asks pkg-config for libqwenguard. The released one is linked with the static library of a module
for each platform, natives/GOOS_GOARCH, which has ONNX Runtime embedded; the tag qwenguard_pkgconfig brings pkg-config back."""

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path

from archives import files_of, sha256, size, write_zip
from notices import notices
from platforms import PACKAGES, ROOT, VERSION, Platform, built, epoch

GO = ROOT / "bindings/go"
SOURCES = PACKAGES / "prefix/go"
PROXY = PACKAGES / "go"
PKG_CONFIG = "#cgo pkg-config: qwenguard\n"
TAG = "qwenguard_pkgconfig"


def module_line() -> tuple[str, str]:
    """The module's path and the lines of its go.mod."""
    text = (GO / "go.mod").read_text()
    return text.split("\n", 1)[0].removeprefix("module "), text


PATH, GO_MOD = module_line()
GO_LINE = next(line for line in GO_MOD.splitlines() if line.startswith("go "))


def constraint(platform: Platform) -> str:
    system, processor = platform.go.split("_")
    return f"{system} && {processor}"


def natives(platform: Platform, folder: Path) -> None:
    folder.mkdir(parents=True)
    runtime = Path(platform.runtime).name
    shutil.copy(platform.natives / "lib/libqwenguard.a", folder)
    shutil.copy(platform.natives / platform.runtime, folder)
    shutil.copy(ROOT / "LICENSE", folder)
    for notice in (platform.natives / "notices").iterdir():
        shutil.copy(notice, folder)
    (folder / "THIRD-PARTY-NOTICES.txt").write_text(notices("qwenguard"))
    (folder / "go.mod").write_text(f"module {PATH}/natives/{platform.go}\n\n{GO_LINE}\n")
    texts = {
        "PACKAGE": platform.go, "CONSTRAINT": constraint(platform), "RUNTIME": runtime,
        "LIBRARIES": platform.system_libraries, "DIGEST": sha256(platform.natives / platform.runtime)[:16],
    }
    # Not named after the system: the constraint in the file says for which it is.
    templates = {"natives": "natives", "place": "place", "system": "system_windows" if platform.windows else "system_unix"}
    if not platform.windows:
        templates["loaded"] = "loaded_darwin" if platform.macos else "loaded_linux"
    for name, template in templates.items():
        source = (ROOT / f"packaging/go/{template}.go.in").read_text()
        for place, text in texts.items():
            source = source.replace(f"@{place}@", text)
        (folder / f"{name}.go").write_text(source)


def needs(platforms: list[Platform], comment: str = "") -> str:
    """The lines of a go.mod for the natives."""
    return "".join(f"\t{PATH}/natives/{platform.go} v{VERSION}{comment}\n" for platform in platforms)


def package(platforms: list[Platform], folder: Path) -> None:
    """The package itself: its sources without tests, with another place to link from."""
    folder.mkdir(parents=True)
    found = False
    for source in GO.glob("*.go"):
        if source.name.endswith("_test.go"):
            continue
        text = source.read_text()
        found |= PKG_CONFIG in text
        (folder / source.name).write_text(text.replace(PKG_CONFIG, "#cgo CFLAGS: -I${SRCDIR}/include\n"))
    if not found:
        raise SystemExit("no file of bindings/go has the line: " + PKG_CONFIG)
    (folder / "include").mkdir()
    shutil.copy(ROOT / "include/qwenguard.h", folder / "include")
    shutil.copy(GO / "README.md", folder)
    shutil.copy(ROOT / "LICENSE", folder)
    name = "package qwenguard\n"
    (folder / "link_pkgconfig.go").write_text(
        f'//go:build {TAG}\n\n{name}\n// {PKG_CONFIG}import "C"\n')
    for platform in platforms:
        (folder / f"link_{platform.go}.go").write_text(
            f'//go:build !{TAG}\n\n{name}\nimport natives "{PATH}/natives/{platform.go}"\n\n'
            "func init() { bundledRuntime, ownRuntime = natives.LoadRuntime, natives.LoadOwnRuntime }\n")
    others = " && ".join(f"!({constraint(platform)})" for platform in platforms)
    (folder / "link_none.go").write_text(
        f"//go:build !{TAG} && {others}\n\n{name}\n"
        f"// There are no natives for this platform: build with -tags {TAG}, for which the README says what it needs.\n"
        f"var _ = no_natives_for_this_platform__build_with_the_tag_{TAG}\n")
    (folder / "go.mod").write_text(f"{GO_MOD.rstrip()}\n\nrequire (\n{needs(platforms)})\n")


def collector(platforms: list[Platform], folder: Path) -> None:
    """The module for Prometheus' client, which is as it is in the repository."""
    folder.mkdir(parents=True)
    source = GO / "qwenguardprometheus"
    for file in source.iterdir():
        if not file.name.endswith("_test.go"):
            shutil.copy(file, folder)
    shutil.copy(ROOT / "LICENSE", folder)
    # Without what finds the package in a checkout, and with what that needs as it is released: Go wants all of it listed here too.
    lines = [line for line in (source / "go.mod").read_text().splitlines() if not line.startswith("replace ")]
    (folder / "go.mod").write_text("\n".join(lines).rstrip() + f"\n\nrequire (\n{needs(platforms, ' // indirect')})\n")


def publish(module: str, folder: Path) -> None:
    """Puts a module where a proxy has it."""
    versions = PROXY / module / "@v"
    versions.mkdir(parents=True)
    moment = datetime.fromtimestamp(epoch(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    (versions / "list").write_text(f"v{VERSION}\n")
    (versions / f"v{VERSION}.info").write_text(json.dumps({"Version": f"v{VERSION}", "Time": moment}))
    shutil.copy(folder / "go.mod", versions / f"v{VERSION}.mod")
    write_zip(versions / f"v{VERSION}.zip", [
        (f"{module}@v{VERSION}/{path.relative_to(folder).as_posix()}", path, 0o644) for path in files_of(folder)
    ])
    print(f"{module} v{VERSION}: {size(versions / f'v{VERSION}.zip')}")


def main() -> None:
    platforms = [platform for platform in built() if (platform.natives / "lib/libqwenguard.a").is_file()]
    for folder in (SOURCES, PROXY):
        shutil.rmtree(folder, ignore_errors=True)
    for platform in platforms:
        folder = SOURCES / "natives" / platform.go
        natives(platform, folder)
        publish(f"{PATH}/natives/{platform.go}", folder)
    package(platforms, SOURCES / "qwenguard")
    publish(PATH, SOURCES / "qwenguard")
    collector(platforms, SOURCES / "qwenguardprometheus")
    publish(f"{PATH}/qwenguardprometheus", SOURCES / "qwenguardprometheus")


if __name__ == "__main__":
    main()
