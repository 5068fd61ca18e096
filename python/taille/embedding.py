"""Where the C and C++ headers, libtaille and its CMake package lie: inside this package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["get_cmake_dir", "get_include"]


def get_include() -> str:
    """The folder to give a compiler with -I, for `#include <taille/taille.h>` (C) and `<taille/taille.hpp>` (C++17).

    Raises:
        FileNotFoundError: the package was built without them.
    """
    return str(part("include", "taille/taille.h"))


def get_cmake_dir() -> str:
    """The folder to give CMake as taille_DIR, so that `find_package(taille)` gives the target taille::taille.

    Raises:
        FileNotFoundError: the package was built without it.
    """
    return str(part("lib/cmake/taille", "taille-config.cmake"))


def part(folder: str, file: str) -> Path:
    """A folder of the package that must hold the file."""
    found = Path(__file__).resolve().parent / folder
    if not (found / file).is_file():
        raise FileNotFoundError(f"there is no {found / file}; this build of taille has no C and C++ parts")
    return found
