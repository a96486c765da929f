"""Writes what packages are made of, as CycloneDX 1.5: sbom.py FILE. `make check-sbom` holds it to the schema."""

import json
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

from archives import sha256
from dependencies import VENDORED, Crate, crates
from platforms import ORT_VERSION, VERSION, built, epoch


def license_of(expression: str) -> list[dict]:
    # Some old crates write "/" for OR.
    return [{"expression": " OR ".join(part.strip() for part in expression.split("/"))}] if expression else []


def component(crate: Crate) -> dict:
    entry: dict = {
        "type": "library",
        "bom-ref": crate.id,
        "name": crate.name,
        "version": crate.version,
        "licenses": license_of(crate.license),
        "purl": f"pkg:cargo/{crate.name}@{crate.version}",
    }
    if crate.checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": crate.checksum}]
    if crate.repository:
        entry["externalReferences"] = [{"type": "vcs", "url": crate.repository}]
    inside = [name for holder, name, _ in VENDORED if holder == crate.name]
    if inside:
        entry["components"] = [{"type": "library", "bom-ref": f"{crate.id}/{name}", "name": name} for name in inside]
    return entry


def runtime() -> dict:
    """ONNX Runtime, as one component with a file for each platform."""
    return {
        "type": "library",
        "bom-ref": f"onnxruntime@{ORT_VERSION}",
        "name": "onnxruntime",
        "version": ORT_VERSION,
        "licenses": license_of("MIT"),
        "purl": f"pkg:pypi/onnxruntime@{ORT_VERSION}",
        "components": [
            {
                "type": "file",
                "bom-ref": f"onnxruntime@{ORT_VERSION}/{platform.key}",
                "name": f"{platform.key}/{Path(platform.runtime).name}",
                "hashes": [{"alg": "SHA-256", "content": sha256(platform.natives / platform.runtime)}],
            }
            for platform in built(notice=False)
        ],
    }


def sbom() -> dict:
    inside = crates()
    root = next(crate for crate in inside.values() if crate.name == "qwenguard")
    runtime_ref = f"onnxruntime@{ORT_VERSION}"
    needs = {crate.id: list(crate.needs) for crate in inside.values()} | {runtime_ref: []}
    needs[root.id].append(runtime_ref)
    moment = datetime.fromtimestamp(epoch(), timezone.utc)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'qwenguard {VERSION} {epoch()}')}",
        "version": 1,
        "metadata": {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": component(root)},
        "components": [component(crate) for crate in inside.values() if crate is not root] + [runtime()],
        "dependencies": [{"ref": ref, "dependsOn": sorted(on)} for ref, on in sorted(needs.items())],
    }


if __name__ == "__main__":
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(sbom(), indent=1) + "\n")
