"""What a training comes to is decided by its data, code, parameters and libraries: those as one digest.

Two trainings with the same fingerprint are the same training, so that only one of them has to be done.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.core.artefacts import library_versions
from platform_assets.core.fitting import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.core.models import ModelSpec

TRAINING = (
    "calibration",
    "evaluation",
    "fitting",
    "models",
    "number_estimators",
    "splits",
    "text_estimators",
    "texts",
    "training",
)
"""Modules beside this one whose code decides what a training comes to, whatever the model."""
CODE = "code"
PARAMETERS = "parameters"


def fingerprint_parts(spec: ModelSpec, table_digests: Mapping[str, str]) -> dict[str, str]:
    """A digest for each thing that decides the outcome: data, code, parameters, libraries.

    Parameters
    ----------
    spec
        The model. Its code is the module that makes its examples, and what that imports from its own package;
        comments do not count.
    table_digests
        Content digest by table.
    """
    parameters = {
        "columns": [spec.id, *spec.feature_names, spec.label, spec.group, spec.time],
        "candidates": [[one.name, settings_of(one)] for one in spec.candidates],
        "holdout": asdict(spec.holdout),
        "folds": spec.folds,
        "ranked_by": spec.ranked_by,
        "threshold": spec.threshold.description,
        "seed": spec.seed,
    }
    sources = [Path(__file__).with_name(f"{name}.py") for name in TRAINING]
    return {
        "data": _digest(dict(table_digests)),
        CODE: _code(tuple(_text(file) for file in [*sources, *sorted(_declaring(spec))])),
        PARAMETERS: _digest(parameters),
        "libraries": _digest(library_versions()),
    }


def fingerprint(parts: Mapping[str, str]) -> str:
    """The parts as one digest, 64 hexadecimal digits."""
    return _digest(dict(parts))


def _declaring(spec: ModelSpec) -> set[Path]:
    """The file that makes the examples, and those of its package that it imports, directly or not."""
    first = Path(str(inspect.getsourcefile(spec.examples)))
    package = spec.examples.__module__.rpartition(".")[0]
    found, new = {first}, [first]
    while new:
        files = {first.with_name(f"{name}.py") for name in _imported(_text(new.pop()), package)}
        added = {file for file in files - found if file.exists()}
        found |= added
        new += added
    return found


@lru_cache(maxsize=64)
def _imported(text: str, package: str) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not package:
            continue
        if node.module == package:
            names |= {alias.name for alias in node.names}
        elif node.module and node.module.startswith(f"{package}."):
            names.add(node.module.removeprefix(f"{package}.").split(".")[0])
    return frozenset(names)


# By the texts, for files may change while a process lives.
@lru_cache(maxsize=16)
def _code(texts: tuple[str, ...]) -> str:
    return _digest([ast.dump(ast.parse(text)) for text in texts])


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
