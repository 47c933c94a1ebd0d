"""Where the files lie that come with the companion: beside the code, or where a wheel has put them."""

import sys
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"
if not (DATA / "openfacts").exists():
    DATA = Path(sys.prefix) / "share" / "memoir-companion"
