"""Gradio imported in half the time: without the type stubs it writes about itself at every start.

Importing Gradio parses the source of each of its 81 component classes twice, renders a `.pyi` text for it and rewrites
the file in its own folder (`gradio.component_meta.create_or_modify_pyi`): half of the processor time of the import, two
writers where two apps start at once, and a file beside any component of ours. Only editors read them, and Gradio has
no switch for it; so its module is loaded with that one function emptied.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

MODULE, FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


def _emptied(module: ModuleType) -> None:
    if hasattr(module, FUNCTION):
        setattr(module, FUNCTION, lambda *_: None)


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _emptied(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != MODULE:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or not isinstance(found.loader, importlib.machinery.SourceFileLoader):
            return found
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=_Loader(fullname, found.origin))


def skip_stubs() -> None:
    """Have every later import of Gradio go without its stubs, and components of ours where it is imported already."""
    if MODULE in sys.modules:
        _emptied(sys.modules[MODULE])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
