"""Holds a CycloneDX file to its schema: check_sbom.py FILE. Runs in target/tools, which has the library for that."""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = Path(sys.argv[1]).read_text()
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
if error:
    raise SystemExit(f"{sys.argv[1]}: {error}")
document = json.loads(text)
known = {component["bom-ref"] for component in [*document["components"], document["metadata"]["component"]]}
for entry in document["dependencies"]:
    missing = {entry["ref"], *entry["dependsOn"]} - known
    if missing:
        raise SystemExit(f"{sys.argv[1]}: {entry['ref']} depends on {', '.join(missing)}, which is not listed")
print(f"{sys.argv[1]}: {len(known)} components, as the schema wants them")
