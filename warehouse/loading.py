"""Loading: our modules find their libraries even if the program's folder has a file of the same name.

Python looks for every module in the program's folder first, so it would load a `trio.py` there in place of
the library.  If that folder has such a file, it is last on the path while a public name is loaded.
`PYTHONPATH` may name the folder again, so every entry that means the folder is moved.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from types import ModuleType

LIBRARIES = (
    "trio",
    "outcome",
    "sniffio",
    "attr",
    "attrs",
    "sortedcontainers",
    "idna",
    "zmq",
    "msgspec",
    "httptools",
    "crc32c",
    "jwt",
    "cryptography",
)
HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where this package lies


def load(place: str) -> ModuleType:
    """Import one of our modules.

    Raises:
        ImportError: the program has already imported its own file with the name of a library.
    """
    folder = _program_folder()
    own = [] if folder is None else [name for name in LIBRARIES if _lies_in(folder, name)]
    if folder is None or not own:
        return import_module(place)
    path = list(sys.path)
    sys.path.sort(key=lambda entry: os.path.abspath(entry) == os.path.abspath(folder))
    try:
        return import_module(place)
    except (ImportError, AttributeError) as error:
        hidden = [name for name in own if _is_loaded_from(folder, name)]
        if not hidden:
            raise
        raise ImportError(
            f"{hidden[0]!r} in {folder} hides the library of that name, which Warehouse needs: rename it"
        ) from error
    finally:
        sys.path[:] = path


def _program_folder() -> str | None:
    """The first entry that Python put on its path: the folder of the program, or the working folder."""
    if sys.flags.safe_path or not sys.path:
        return None
    try:
        return None if os.path.abspath(sys.path[0]) == HOME else sys.path[0]
    except FileNotFoundError:
        return None  # a working folder that was deleted: nothing can lie in it


def _lies_in(folder: str, name: str) -> bool:
    return PathFinder.find_spec(name, [folder]) is not None  # also in the archive that a program is run from


def _is_loaded_from(folder: str, name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and os.path.abspath(file).startswith(os.path.join(os.path.abspath(folder), name))
