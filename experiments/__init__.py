"""Scripts: `python experiments/NAME.py` and `python -m experiments.NAME` do the same.

They import one another by their own names, as scripts do: their folder comes first on the path.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
