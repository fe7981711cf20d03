"""Handwritten digit recognition in JAX and Flax: the names that a notebook imports.

They are listed in `__init__.pyi` and imported when they are first used, so that a command answers `--help` at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
