"""Tests of the scripts of this folder: `make test-packaging`."""

import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import abi
import archives
import csharp
import natives
import platforms
import publish_go
import release
import tarball
import tests
from platforms import INTERFACE, PLATFORMS, ROOT, VERSION, by_key


def tracked() -> list[str]:
    said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in said.stdout.split("\0") if name]


class Folder(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)


class Archives(Folder):
    def filled(self, name: str) -> Path:
        folder = self.folder / name
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/program").write_bytes(b"program")
        (folder / "bin/program").chmod(0o777)
        (folder / "link").symlink_to("bin/program")
        return folder

    def test_the_same_files_make_the_same_bytes(self) -> None:
        made = []
        for name in ("one", "two"):
            folder = self.filled(name)
            os.utime(folder / "bin/program", (len(made), len(made)))
            archives.tar_gz(self.folder / f"{name}.tar.gz", folder, "top")
            archives.zip_folder(self.folder / f"{name}.zip", folder)
            made.append([(self.folder / f"{name}{suffix}").read_bytes() for suffix in (".tar.gz", ".zip")])
        self.assertEqual(made[0], made[1])

    def test_links_and_permissions_stay(self) -> None:
        archives.tar_gz(self.folder / "a.tar.gz", self.filled("a"), "top")
        with tarfile.open(self.folder / "a.tar.gz") as tar:
            self.assertEqual(tar.getmember("top/link").linkname, "bin/program")
            self.assertEqual(tar.getmember("top/bin/program").mode, 0o755)

    def test_a_digest_is_that_of_the_content(self) -> None:
        file = self.folder / "file"
        file.write_bytes(b"abc")
        self.assertTrue(archives.sha256(file).startswith("ba7816bf8f01cfea"))


class Interface(unittest.TestCase):
    released = {"constant QG_ABI_VERSION": "1", "function qg_f": "void (int32_t)", "field qg_s.a": "int32_t at 0"}

    def test_new_names_break_nothing(self) -> None:
        self.assertEqual(abi.differences(self.released, self.released | {"function qg_g": "void (void)"}), [])

    def test_what_is_gone_or_changed_is_named(self) -> None:
        now = {"constant QG_ABI_VERSION": "1", "function qg_f": "void (uint32_t)"}
        found = abi.differences(self.released, now)
        self.assertEqual(len(found), 2)
        self.assertIn("qg_s.a", found[0])
        self.assertIn("void (uint32_t) now", found[1])

    def test_structs_that_grow_keep_their_places_only(self) -> None:
        listed = abi.read(abi.LIST)
        self.assertNotIn("struct qg_guard_options", listed)
        self.assertEqual(listed["field qg_guard_options.struct_size"], "uint32_t at 0")
        self.assertIn("struct qg_update", listed)


# Lines that keep an old version, as FILE:LINE, and why.
KEPT = {
    r"CHANGELOG\.md:": "each of its sections is of a version",
    r"Cargo\.lock:": "cargo writes it, and crates of others have such versions too",
    r"packaging/test_scripts\.py:": "examples",
    r'.*such as "§"': "examples in comments",
    r".*qwenguard-export.*§": "bundles say what wrote them",
}


class Release(Folder):
    def tree(self) -> Path:
        """A copy of all that is tracked."""
        for name in tracked():
            if (ROOT / name).is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
        return self.folder

    def contents(self, root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def lines(self, root: Path, pattern: str) -> list[str]:
        """Where a pattern is found, as FILE:LINE."""
        texts = {name: content.decode(errors="replace") for name, content in self.contents(root).items()}
        return [f"{name}:{line}" for name, text in texts.items() if re.search(pattern, text)
                for line in text.splitlines() if re.search(pattern, line)]

    def test_every_place_has_the_version(self) -> None:
        self.assertEqual(release.disagreements(ROOT), [])

    def test_a_new_version_reaches_every_place_and_the_old_one_is_gone(self) -> None:
        root = self.tree()
        before = self.contents(root)
        release.set_version(root, "97.98.99")
        self.assertEqual(release.disagreements(root), [])
        version, interface = re.escape(VERSION), re.escape(INTERFACE)
        left = self.lines(root, rf"(?<![\d.]){version}(?!\d|\.\d)|libqwenguard\.(so\.)?{interface}(?!\d|\.\d)")
        kept = "|".join(KEPT).replace("§", version)
        self.assertEqual([line for line in left if not re.match(kept, line)], [])
        release.set_version(root, VERSION)
        self.assertEqual(self.contents(root), before)

    def test_a_place_that_was_forgotten_is_named(self) -> None:
        root = self.tree()
        release.replace(root / "packaging/qwenguard.pc", "(?<=Version: )§", VERSION, "9.9.9")
        self.assertEqual(release.disagreements(root), [f"packaging/qwenguard.pc: 9.9.9, not {VERSION}"])

    def test_the_changelog_is_closed_only_for_its_version(self) -> None:
        log = self.folder / "CHANGELOG.md"
        for text, complaint in (
            ("# Changelog\n\n## 0.3.0, unreleased\n\n- Something.\n", "its first section is not"),
            ("# Changelog\n\n## 0.2.0, 2026-01-01\n\n- Something.\n", "its first section is not"),
            ("# Changelog\n\n## 0.2.0, unreleased\n\n## 0.1.0, 2026-01-01\n\n- Old.\n", "says nothing"),
        ):
            log.write_text(text)
            with self.assertRaisesRegex(SystemExit, complaint):
                release.close_changelog(self.folder, "0.2.0", "2026-02-03")
            self.assertEqual(log.read_text(), text)
        log.write_text("# Changelog\n\n## 0.2.0, unreleased\n\n- Something.\n\n## 0.1.0, 2026-01-01\n\n- Old.\n")
        release.close_changelog(self.folder, "0.2.0", "2026-02-03")
        self.assertIn("## 0.2.0, 2026-02-03\n\n- Something.\n\n## 0.1.0", log.read_text())

    def test_versions_go_up(self) -> None:
        for version in ("1", "1.0", "v1.0.0", "1.0.0-rc1", "0.0.9"):
            with self.assertRaises(SystemExit):
                release.check_number(ROOT, version)
        release.check_number(ROOT, "99.0.0")


class GoModules(Folder):
    def proxy(self) -> Path:
        """What golang.py makes, of one file each."""
        for module in (publish_go.PATH, f"{publish_go.PATH}/natives/linux_amd64"):
            archive = self.folder / "proxy" / module / f"@v/v{VERSION}.zip"
            archives.write_zip(archive, [(f"{module}@v{VERSION}/go.mod", f"module {module}\n".encode(), 0o644)])
        return self.folder / "proxy"

    def git(self, *words: str, **options: object) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True, **options).stdout

    def test_a_repository_gets_a_tag_for_each_module_and_no_branch(self) -> None:
        remote = str(self.folder / "remote.git")
        self.git("init", "--quiet", "--bare", remote)
        with mock.patch.object(publish_go, "PROXY", self.proxy()):
            tags = publish_go.publish(remote)
        folders = ["bindings/go", "bindings/go/natives/linux_amd64"]
        self.assertEqual(tags, [f"{folder}/v{VERSION}" for folder in folders])
        self.assertEqual(set(self.git("-C", remote, "for-each-ref", "--format=%(refname)").split()), {f"refs/tags/{tag}" for tag in tags})
        for folder, tag in zip(folders, tags):
            text = self.git("-C", remote, "show", f"{tag}:{folder}/go.mod")
            self.assertTrue(text.endswith(folder.removeprefix("bindings/go") + "\n"), text)

    def test_the_token_is_for_https_and_on_no_command_line(self) -> None:
        secret = "a token's \\n $HOME"
        with mock.patch.dict(os.environ, {publish_go.TOKEN: secret}):
            words = publish_go.credentials("https://example.org/go.git")
            said = self.git(*words, "credential", "fill", input="protocol=https\nhost=example.org\n\n")
            self.assertIn(f"password={secret}\n", said)
            self.assertNotIn(secret, " ".join(words))
            self.assertEqual(publish_go.credentials("git@example.org:go.git"), [])
        with mock.patch.dict(os.environ):
            os.environ.pop(publish_go.TOKEN, None)
            self.assertEqual(publish_go.credentials("https://example.org/go.git"), [])


class Notices(Folder):
    def packed(self, *names: str) -> bool:
        archive = self.folder / "packed.zip"
        archives.write_zip(archive, [(name, b"", 0o644) for name in names])
        return tests.has_notices(archive)

    def test_they_are_with_what_they_are_of(self) -> None:
        own, theirs = "doc/THIRD-PARTY-NOTICES.txt", ("onnxruntime-LICENSE.txt", "onnxruntime-ThirdPartyNotices.txt")
        self.assertFalse(self.packed("src/qwenguard.go", "lib/Qwenguard.dll"))
        for library in ("lib/libqwenguard.so.0.1.0", "libqwenguard.0.1.dylib", "qwenguard.dll", "libqwenguard.a", "_native.abi3.so"):
            self.assertTrue(self.packed(library, own))
            with self.assertRaisesRegex(AssertionError, "lacks THIRD-PARTY-NOTICES.txt"):
                self.packed(library)
        self.assertTrue(self.packed("onnxruntime.dll", *theirs))
        with self.assertRaisesRegex(AssertionError, "lacks onnxruntime-LICENSE.txt"):
            self.packed("lib/libonnxruntime.so", theirs[1])


class Manual(unittest.TestCase):
    def test_its_page_names_those_of_commands(self) -> None:
        page = b".SH SUBCOMMANDS\n.TP\nqwenguard\\-moderate(1)\nJudge, see qwenguard\\-man(1)\n.TP\nqwenguard\\-serve(1)\nServe\n"
        self.assertEqual(tarball.commands(page), ["moderate", "serve"])


class Natives(Folder):
    def natives(self, version: str) -> list[str]:
        complete = self.folder / "linux-x64/.complete"
        complete.parent.mkdir(exist_ok=True)
        complete.write_text(f"{version} digest\n")
        with mock.patch.object(platforms, "NATIVES", self.folder):
            return [platform.key for platform in platforms.built(notice=False)]

    def test_those_of_another_version_are_refused(self) -> None:
        self.assertEqual(self.natives(VERSION), ["linux-x64"])
        with self.assertRaisesRegex(SystemExit, f"linux-x64 are of version 0.0.9, not {VERSION}: make natives-linux-x64"):
            self.natives("0.0.9")


class Workflow(unittest.TestCase):
    def test_the_release_leaves_out_no_test_but_those_of_arm(self) -> None:
        """As CONTRIBUTING.md says."""
        text = (ROOT / ".github/workflows/release.yml").read_text()
        named = " ".join(re.findall(r'ecosystems="?((?<=")[^"]+|\w+)', text)).split()
        self.assertEqual(sorted([*named, "arm", "go_arm"]), sorted(tests.TESTS))


class Flags(unittest.TestCase):
    def test_a_checkout_may_lie_in_a_folder_with_spaces(self) -> None:
        rust, c = ["--remap-path-prefix=/a b=/qwenguard", "-Cx"], ["-ffile-prefix-map=/a b=/qwenguard", "-ffile-prefix-map=/c=/cargo"]
        variables = natives.encoded(by_key("linux-x64"), rust, c)
        self.assertEqual(variables["CARGO_ENCODED_RUSTFLAGS"].split("\x1f"), rust)
        self.assertEqual(shlex.split(variables["CFLAGS_x86_64_unknown_linux_gnu"]), c)
        self.assertEqual(variables["CC_SHELL_ESCAPED_FLAGS"], "1")


class Nuspec(unittest.TestCase):
    files = {"icon.png": 697, "README.md": 9000}

    def refused(self, text: str, complaint: str) -> None:
        with self.assertRaisesRegex(SystemExit, complaint):
            csharp.check_nuspec(text, self.files)

    def test_those_of_both_packages_suit_the_schema(self) -> None:
        for symbols in (False, True):
            csharp.check_nuspec(csharp.nuspec(["netstandard2.0", "net8.0"], symbols), self.files)

    def test_what_the_schema_refuses(self) -> None:
        text = csharp.nuspec(["net8.0"], symbols=False)
        self.refused(text.replace("tags>", "name>"), "has name in metadata")
        self.refused(text.replace("<tags>", "<id>Other</id><tags>"), "twice")
        self.refused(text.replace(' type="expression"', ""), "license has not the attributes of its schema: type")
        self.refused(text.replace('<group target', '<group Target'), "group .*: TargetFramework")
        self.refused(text.replace("<id>Qwenguard</id>", ""), "lacks id")
        self.refused(text.replace("2013/05", "2013/01"), "which its schema does not")

    def test_what_it_names_is_there_and_not_too_large(self) -> None:
        text = csharp.nuspec(["net8.0"], symbols=False)
        for sizes in ({"README.md": 1}, self.files | {"icon.png": 0}, self.files | {"icon.png": 1_048_577}):
            with self.assertRaisesRegex(SystemExit, "icon.png"):
                csharp.check_nuspec(text, sizes)


class Crates(unittest.TestCase):
    def test_what_sources_are_compiled_with_is_packed(self) -> None:
        for name, folder in (("qwenguard", ROOT), ("qwenguard-cli", ROOT / "cli")):
            listed = subprocess.run(["cargo", "package", "--locked", "--offline", "--list", "--allow-dirty", "-p", name], cwd=ROOT,
                                    capture_output=True, text=True, check=True).stdout.splitlines()
            for source in (folder / "src").rglob("*.rs"):
                for other in re.findall(r'(?:#\[path = |include\w*!\()"(\.\./[^"]*)"', source.read_text()):
                    file = (source.parent / other).resolve().relative_to(folder).as_posix()
                    self.assertTrue(file in listed, f"{source} needs {file}, which the crate lacks")


class Platforms(unittest.TestCase):
    def test_every_platform_has_names_of_its_own(self) -> None:
        for name in ("key", "rust", "java", "official", "go"):
            values = [getattr(platform, name) for platform in PLATFORMS]
            self.assertEqual(len(values), len(set(values)), name)

    def test_files_are_named_as_each_system_does(self) -> None:
        self.assertEqual(by_key("win-x64").library, "bin/qwenguard.dll")
        self.assertEqual(by_key("linux-x64").library, f"lib/libqwenguard.so.{VERSION}")
        self.assertEqual(by_key("osx-arm64").runtime, "lib/libonnxruntime.dylib")
        with self.assertRaisesRegex(SystemExit, "linux-x64"):
            by_key("plan9-x64")


if __name__ == "__main__":
    unittest.main()
