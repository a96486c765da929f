"""What is shared: the modules of the nano guard, which prepare the data, and those of the exporter, which know the answers."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NANO = HERE.parent / "nano"
sys.path += [str(NANO), str(HERE.parent)]
