"""The command `python -m actors.master` (volume, compactor, cluster) where Warehouse is installed.

In a checkout, the room `actors/` at the top takes its place.
"""

import os
import sys

# From next to this package: what follows must not come from the working folder.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import warehouse  # noqa: F401

sys.path.pop(0)
