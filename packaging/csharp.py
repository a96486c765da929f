"""Makes the NuGet package and its symbols, without the dotnet tool: they are zip files with a nuspec.

The assemblies come from `dotnet build` where there is one (netstandard2.0 and net8.0), else from Mono's compiler (net472).
Natives are in runtimes/RID/native. ONNX Runtime is a dependency, Microsoft.ML.OnnxRuntime, whose natives NuGet puts beside ours."""

import hashlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
import xml.sax.saxutils as xml
from pathlib import Path

from archives import size, write_zip
from notices import notices
from platforms import ORT_VERSION, PACKAGES, ROOT, VERSION, built, run

CSHARP = ROOT / "bindings/csharp"
PROJECT = (CSHARP / "src/Qwenguard.csproj").read_text()
WORK = PACKAGES / "prefix/csharp"
PAGE = "https://github.com/libqwenguard/libqwenguard"
GROUPS = {"netstandard2.0": ".NETStandard2.0", "net8.0": "net8.0", "net472": ".NETFramework4.7.2"}
NAMESPACE = "http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd"
# What a nuspec of ours may have, as NuGet's schema says: by parent and element the attributes, those that must be there with a "!".
SCHEMA: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "package"): (),
    ("package", "metadata"): ("minClientVersion",),
    **{("metadata", name): () for name in ("id", "version", "authors", "licenseUrl", "icon", "readme", "projectUrl", "description",
                                           "copyright", "tags", "packageTypes", "dependencies")},
    ("metadata", "license"): ("!type", "version"),
    ("metadata", "repository"): ("type", "url", "branch", "commit"),
    ("packageTypes", "packageType"): ("!name", "version"),
    ("dependencies", "group"): ("targetFramework",),
    ("group", "dependency"): ("!id", "version", "include", "exclude"),
}
# What nuget.org takes of these files.
LARGEST = 1024 * 1024


def with_dotnet() -> dict[str, Path]:
    """The folders of assemblies, by framework."""
    run("dotnet", "build", CSHARP / "src/Qwenguard.csproj", "-c", "Release", "-p:ContinuousIntegrationBuild=true",
        f"-p:BaseOutputPath={WORK}/bin/")
    return {framework: WORK / "bin/Release" / framework for framework in ("netstandard2.0", "net8.0")}


def with_mono() -> dict[str, Path]:
    print("NOTICE: without dotnet the package has an assembly for .NET Framework 4.7.2 and Mono only")
    output = WORK / "net472"
    output.mkdir(parents=True)
    # What dotnet makes of the project's version.
    about = WORK / "AssemblyInfo.cs"
    about.write_text((CSHARP / "build/AssemblyInfo.cs.in").read_text().replace("@VERSION@", VERSION))
    run("mcs", "-unsafe", "-langversion:7.2", "-warnaserror", "-optimize", "-debug", "-target:library", "-sdk:4.7.2-api",
        f"-out:{output}/Qwenguard.dll", f"-doc:{output}/Qwenguard.xml", "-recurse:bindings/csharp/src/*.cs", about, cwd=ROOT)
    return {"net472": output}


def of_project(name: str) -> str:
    return xml.unescape(re.search(rf"<{name}>(.*?)</{name}>", PROJECT)[1])


def commit() -> str:
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip()


def nuspec(frameworks: list[str], symbols: bool) -> str:
    def element(name: str, text: str, attributes: str = "") -> str:
        return f"    <{name}{attributes}>{xml.escape(text)}</{name}>\n"

    license = of_project("PackageLicenseExpression")
    parts = [element("id", of_project("PackageId")), element("version", VERSION), element("authors", of_project("Authors"))]
    if not symbols:
        parts += [element("license", license, ' type="expression"'),
                  element("licenseUrl", f"https://licenses.nuget.org/{license}"),
                  element("icon", "icon.png"), element("readme", "README.md")]
    parts += [element("projectUrl", PAGE), element("description", of_project("Description"))]
    if not symbols:
        parts += [element("copyright", "Copyright the libqwenguard authors"), element("tags", of_project("PackageTags"))]
    if symbols:
        parts += ['    <packageTypes>\n      <packageType name="SymbolsPackage" />\n    </packageTypes>\n']
    parts += [f'    <repository type="git" url="{PAGE}.git" commit="{commit()}" />\n', "    <dependencies>\n"]
    for framework in frameworks:
        needs = "" if symbols else f'        <dependency id="Microsoft.ML.OnnxRuntime" version="{ORT_VERSION}" />\n'
        parts += [f'      <group targetFramework="{GROUPS[framework]}">\n{needs}      </group>\n']
    parts += ["    </dependencies>\n"]
    return ('<?xml version="1.0" encoding="utf-8"?>\n'
            f'<package xmlns="{NAMESPACE}">\n'
            f'  <metadata minClientVersion="5.10">\n{"".join(parts)}  </metadata>\n</package>\n')


def check_element(element: ElementTree.Element, parent: str = "") -> None:
    """Holds an element and all below it to the schema. Its order is free."""
    name = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    if (parent, name) not in SCHEMA:
        raise SystemExit(f"the nuspec has {name} in {parent or 'no element'}, which its schema does not")
    known = SCHEMA[parent, name]
    wrong = [key for key in element.attrib if key not in known and f"!{key}" not in known]
    wrong += [key[1:] for key in known if key.startswith("!") and key[1:] not in element.attrib]
    if wrong:
        raise SystemExit(f"the nuspec's {name} has not the attributes of its schema: {', '.join(wrong)}")
    names = [child.tag for child in element]
    if name == "metadata" and len(names) != len(set(names)):
        raise SystemExit("the nuspec has an element of its metadata twice")
    for child in element:
        check_element(child, name)


def check_nuspec(text: str, sizes: dict[str, int]) -> None:
    """What NuGet's schema and nuget.org refuse a package without."""
    package = ElementTree.fromstring(text.encode())
    check_element(package)
    metadata = package.find(f"{{{NAMESPACE}}}metadata")
    for required in ("id", "version", "authors", "description"):
        if not metadata.findtext(f"{{{NAMESPACE}}}{required}"):
            raise SystemExit(f"the nuspec lacks {required}")
    for named in ("icon", "readme"):
        name = metadata.findtext(f"{{{NAMESPACE}}}{named}")
        if name and not 0 < sizes.get(name, 0) <= LARGEST:
            raise SystemExit(f"the nuspec names {name}, which is not in the package, or larger than 1 MiB")


def wrap(archive: Path, text: str, files: list[tuple[str, bytes | Path]]) -> None:
    """The parts that make a zip file an OPC package."""
    extensions = sorted({Path(name).suffix[1:] for name, _ in files if Path(name).suffix} | {"nuspec", "psmdcp"})
    core = f"package/services/metadata/core-properties/{hashlib.sha256(text.encode()).hexdigest()[:32]}.psmdcp"
    types = "".join(
        f'\n  <Default Extension="{extension}" ContentType="application/octet" />' for extension in extensions
    )
    bare = "".join(
        f'\n  <Override PartName="/{name}" ContentType="application/octet" />' for name, _ in files if not Path(name).suffix
    )
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    properties = f"{relations}/metadata/core-properties"
    head = [
        ("_rels/.rels", f"""<?xml version="1.0" encoding="utf-8"?>
<Relationships xmlns="{relations}">
  <Relationship Type="http://schemas.microsoft.com/packaging/2010/07/manifest" Target="/Qwenguard.nuspec" Id="R1" />
  <Relationship Type="{properties}" Target="/{core}" Id="R2" />
</Relationships>
"""),
        ("Qwenguard.nuspec", text),
        ("[Content_Types].xml", f"""<?xml version="1.0" encoding="utf-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
  <Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml" />{types}{bare}
</Types>
""".replace('"psmdcp" ContentType="application/octet"',
            '"psmdcp" ContentType="application/vnd.openxmlformats-package.core-properties+xml"')),
        (core, f"""<?xml version="1.0" encoding="utf-8"?>
<coreProperties xmlns="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"
  xmlns:dc="http://purl.org/dc/elements/1.1/">
  <dc:creator>{xml.escape(of_project("Authors"))}</dc:creator>
  <dc:description>{xml.escape(of_project("Description"))}</dc:description>
  <dc:identifier>Qwenguard</dc:identifier>
  <version>{VERSION}</version>
</coreProperties>
"""),
    ]
    entries = [(name, content.encode(), 0o644) for name, content in head]
    write_zip(archive, entries + [(name, content, 0o644) for name, content in sorted(files, key=lambda file: file[0])])
    print(f"{archive.name}: {size(archive)}")


def sizes_of(files: list[tuple[str, bytes | Path]]) -> dict[str, int]:
    return {name: len(content) if isinstance(content, bytes) else content.stat().st_size for name, content in files}


def package(assemblies: dict[str, Path]) -> None:
    targets = (CSHARP / "build/Qwenguard.targets").read_bytes()
    files: list[tuple[str, bytes | Path]] = [
        ("README.md", CSHARP / "README.md"),
        ("icon.png", ROOT / "packaging/icon.png"),
        ("LICENSE.txt", ROOT / "LICENSE"),
        ("THIRD-PARTY-NOTICES.txt", notices("qwenguard").encode()),
        ("build/Qwenguard.targets", targets),
        ("buildTransitive/Qwenguard.targets", targets),
    ]
    # Mono's compiler writes symbols for Mono alone, which lie with the assembly.
    for framework, folder in assemblies.items():
        names = ("Qwenguard.dll", "Qwenguard.xml", "Qwenguard.dll.mdb")
        files += [(f"lib/{framework}/{name}", folder / name) for name in names if (folder / name).exists()]
    for platform in built():
        files.append((f"runtimes/{platform.key}/native/{platform.plain}", platform.natives / platform.library))
    text = nuspec(list(assemblies), symbols=False)
    check_nuspec(text, sizes_of(files))
    wrap(PACKAGES / f"Qwenguard.{VERSION}.nupkg", text, files)


def symbols(assemblies: dict[str, Path]) -> None:
    files: list[tuple[str, bytes | Path]] = [
        (f"lib/{framework}/Qwenguard.pdb", folder / "Qwenguard.pdb") for framework, folder in assemblies.items()
    ]
    text = nuspec(list(assemblies), symbols=True)
    check_nuspec(text, sizes_of(files))
    wrap(PACKAGES / f"Qwenguard.{VERSION}.snupkg", text, files)


if __name__ == "__main__":
    shutil.rmtree(WORK, ignore_errors=True)
    made = with_dotnet() if shutil.which("dotnet") else with_mono()
    package(made)
    if all((folder / "Qwenguard.pdb").is_file() for folder in made.values()):
        symbols(made)
    else:
        print("LEFT OUT: the package of symbols: Mono's compiler writes none that NuGet takes")
