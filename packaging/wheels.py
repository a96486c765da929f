"""The wheel for Linux on x86-64, made as the natives are, with the notices of third parties beside its modules."""

import os
import shutil

from natives import PROFILE, encoded, flags
from notices import notices
from platforms import PACKAGES, ROOT, by_key, epoch, run

FOLDER = PACKAGES / "python"
NOTICES = ROOT / "bindings/python/python/qwenguard/THIRD-PARTY-NOTICES.txt"


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    # So that the folder of sources is there, whose name the flags have.
    run("cargo", "fetch", "--locked", cwd=ROOT)
    environment = os.environ | encoded(by_key("linux-x64"), *flags()) | {"SOURCE_DATE_EPOCH": str(epoch())}
    NOTICES.write_text(notices("qwenguard-python"))
    try:
        run("make", "--no-print-directory", "python", "manylinux=2_28", f"python_profile={PROFILE}", f"wheels={FOLDER.relative_to(ROOT)}",
            cwd=ROOT, env=environment)
    finally:
        NOTICES.unlink()


if __name__ == "__main__":
    main()
