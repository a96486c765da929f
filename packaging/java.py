"""Makes the Maven artifacts, as a repository in target/packages/maven: the API's jar, its sources and documentation, a jar with the
natives of each platform, the same without ONNX Runtime (`slim`), and the POM."""

import hashlib
import os
import re
import shutil
import subprocess
import xml.sax.saxutils as xml
import zipfile
from datetime import datetime, timezone
from pathlib import Path

from archives import files_of, size, write_zip, zip_folder
from notices import notices
from platforms import INTERFACE, ORT_VERSION, PACKAGES, ROOT, VERSION, Platform, built, epoch, run
from tarball import lay_out

JAVA = ROOT / "bindings/java"
BUILT = ROOT / "target/java"
GROUP, ARTIFACT = "io.github.libqwenguard", "qwenguard"
REPOSITORY = PACKAGES / "maven"
FOLDER = REPOSITORY / GROUP.replace(".", "/") / ARTIFACT / VERSION
PAGE = "https://github.com/libqwenguard/libqwenguard"


def jar(classifier: str = "") -> Path:
    return FOLDER / f"{ARTIFACT}-{VERSION}{'-' + classifier if classifier else ''}.jar"


def build_api(platform: Platform) -> None:
    """The API's jar, by Maven, which wants a folder as `make dist` makes it."""
    prefix = PACKAGES / "prefix/java"
    lay_out(platform, prefix)
    moment = datetime.fromtimestamp(epoch(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    run("sh", JAVA / "mvn.sh", "-q", "clean", "package", "-DskipTests", f"-Dproject.build.outputTimestamp={moment}",
        env=os.environ | {"QWENGUARD_DIST": str(prefix)})
    shutil.rmtree(prefix)
    repack(BUILT / f"{ARTIFACT}-{VERSION}.jar", jar())


def repack(source: Path, output: Path) -> None:
    """The same jar with the licence, in which every entry has the same time."""
    with zipfile.ZipFile(source) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    manifest = entries.pop("META-INF/MANIFEST.MF")
    entries["META-INF/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    # The manifest comes first: readers of streams look for it there.
    write_zip(output, [("META-INF/MANIFEST.MF", manifest, 0o644)] + [(n, c, 0o644) for n, c in sorted(entries.items())])


def loaded_as(platform: Platform) -> str:
    """The file name under which the JNI library looks for the library."""
    if platform.windows:
        return "qwenguard.dll"
    return f"libqwenguard.{INTERFACE}.dylib" if platform.macos else f"libqwenguard.so.{INTERFACE}"


def natives(platform: Platform, slim: bool) -> None:
    folder = PACKAGES / "prefix/natives-jar"
    shutil.rmtree(folder, ignore_errors=True)
    libraries = folder / "io/github/libqwenguard/native" / platform.java
    libraries.mkdir(parents=True)
    shutil.copy(platform.natives / platform.library, libraries / loaded_as(platform))
    shutil.copy(platform.natives / "jni" / platform.jni, libraries)
    information = folder / "META-INF"
    information.mkdir()
    shutil.copy(ROOT / "LICENSE", information)
    (information / "THIRD-PARTY-NOTICES.txt").write_text(notices("qwenguard"))
    if not slim:
        shutil.copy(platform.natives / platform.runtime, libraries)
        for notice in (platform.natives / "notices").iterdir():
            shutil.copy(notice, information)
    run("sh", JAVA / "src/main/native/pack.sh", java_home(), platform.java, folder)
    output = jar(platform.java + ("-slim" if slim else ""))
    zip_folder(output, folder)
    shutil.rmtree(folder)
    print(f"{output.name}: {size(output)}")


def java_home() -> str:
    """The newest JDK, as bindings/java finds it."""
    found = subprocess.run(["sh", JAVA / "jdks.sh"], capture_output=True, text=True, check=True).stdout.strip()
    if not found:
        raise SystemExit("a JDK of 22 or newer is missing: without it there is no provider for Java 22")
    return found


def sources() -> None:
    entries = []
    for folder in ("src/main/java", "src/main/java22", "src/main/java9"):
        base = JAVA / folder
        top = {"src/main/java": "", "src/main/java22": "META-INF/versions/22/", "src/main/java9": "META-INF/versions/9/"}[folder]
        entries += [(top + path.relative_to(base).as_posix(), path, 0o644) for path in files_of(base)]
    write_zip(jar("sources"), [*sorted(entries), ("META-INF/LICENSE", ROOT / "LICENSE", 0o644)])


def documentation() -> None:
    folder = PACKAGES / "prefix/javadoc"
    shutil.rmtree(folder, ignore_errors=True)
    files = [str(path) for path in files_of(JAVA / "src/main/java") if path.name != "module-info.java"]
    run(Path(java_home()) / "bin/javadoc", "-quiet", "-Xdoclint:all,-missing", "-notimestamp", "--release", "8", "-d", folder,
        "-windowtitle", f"qwenguard {VERSION}", *files)
    zip_folder(jar("javadoc"), folder)
    shutil.rmtree(folder)


def pom() -> str:
    """What Maven Central wants, and ONNX Runtime's own package for those who take natives without it."""
    source = (JAVA / "pom.xml").read_text()
    about = re.search(r"<description>(.*?)</description>", source)[1]
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
         xsi:schemaLocation="http://maven.apache.org/POM/4.0.0 http://maven.apache.org/xsd/maven-4.0.0.xsd">
  <modelVersion>4.0.0</modelVersion>
  <groupId>{GROUP}</groupId>
  <artifactId>{ARTIFACT}</artifactId>
  <version>{VERSION}</version>
  <packaging>jar</packaging>
  <name>qwenguard</name>
  <description>{xml.escape(xml.unescape(about))}</description>
  <url>{PAGE}</url>
  <licenses>
    <license>
      <name>Apache-2.0</name>
      <url>https://www.apache.org/licenses/LICENSE-2.0.txt</url>
      <distribution>repo</distribution>
    </license>
  </licenses>
  <developers>
    <developer>
      <name>The libqwenguard authors</name>
      <url>{PAGE}</url>
    </developer>
  </developers>
  <scm>
    <connection>scm:git:{PAGE}.git</connection>
    <developerConnection>scm:git:{PAGE}.git</developerConnection>
    <url>{PAGE}</url>
    <tag>v{VERSION}</tag>
  </scm>
  <dependencies>
    <!-- For natives without ONNX Runtime, whose classifiers end with -slim. Others need it not. -->
    <dependency>
      <groupId>com.microsoft.onnxruntime</groupId>
      <artifactId>onnxruntime</artifactId>
      <version>{ORT_VERSION}</version>
      <scope>runtime</scope>
      <optional>true</optional>
    </dependency>
  </dependencies>
</project>
"""


def check_pom(text: str) -> None:
    """What Central refuses a POM without."""
    for element in ("name", "description", "url", "licenses", "developers", "scm"):
        if f"<{element}>" not in text:
            raise SystemExit(f"the POM lacks {element}")


def index_repository() -> None:
    moment = datetime.fromtimestamp(epoch(), timezone.utc).strftime("%Y%m%d%H%M%S")
    metadata = f"""<?xml version="1.0" encoding="UTF-8"?>
<metadata>
  <groupId>{GROUP}</groupId>
  <artifactId>{ARTIFACT}</artifactId>
  <versioning>
    <latest>{VERSION}</latest>
    <release>{VERSION}</release>
    <versions>
      <version>{VERSION}</version>
    </versions>
    <lastUpdated>{moment}</lastUpdated>
  </versioning>
</metadata>
"""
    (FOLDER.parent / "maven-metadata.xml").write_text(metadata)
    for file in [*files_of(FOLDER), FOLDER.parent / "maven-metadata.xml"]:
        for algorithm in ("md5", "sha1", "sha256", "sha512"):
            digest = hashlib.new(algorithm, file.read_bytes()).hexdigest()
            file.with_name(f"{file.name}.{algorithm}").write_text(digest)


def main() -> None:
    platforms = built()
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    java_home()
    build_api(platforms[0])
    for platform in platforms:
        if not (platform.natives / "jni" / platform.jni).is_file():
            print(f"LEFT OUT: {platform.key}: its jni/{platform.jni} is not built")
            continue
        for slim in (False, True):
            natives(platform, slim)
    sources()
    documentation()
    text = pom()
    check_pom(text)
    (FOLDER / f"{ARTIFACT}-{VERSION}.pom").write_text(text)
    index_repository()
    for file in (jar(), jar("sources"), jar("javadoc")):
        print(f"{file.name}: {size(file)}")


if __name__ == "__main__":
    main()
