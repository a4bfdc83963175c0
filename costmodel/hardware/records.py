"""From YAML text to checked records: the parts that every hardware file has in common.

PyYAML keeps the last of two equal keys and reads ``1.0e12`` as text. Both have put wrong peaks
into published tools, so both are refused here, with the file and the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from costmodel.errors import CostModelError

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
RecordT = TypeVar("RecordT", bound=BaseModel)


class _UniqueKeyLoader(_Base):  # type: ignore[misc]
    """The safe loader, except that a repeated key is an error."""


def _unique_mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is not text; quote it or remove it")
        if key in seen:
            line = key_node.start_mark.line + 1
            raise yaml.MarkedYAMLError(problem=f"{key}: given twice (line {line}); keep one")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read_mapping(path: Path) -> dict[str, Any]:
    """The top-level mapping of a YAML file.

    Raises `CostModelError` in one line when the file cannot be read, is not YAML, repeats a key,
    or holds something other than a mapping.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506
    except OSError as error:
        raise CostModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CostModelError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise CostModelError(f"{path}: {where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise CostModelError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise CostModelError(f"{path}: nested too deeply for a profile") from error
    if not isinstance(data, dict):
        raise CostModelError(f"{path}: holds no mapping; start with 'schema: 1'")
    return data


def build(model: type[RecordT], data: Mapping[str, Any], path: Path, prefix: str = "") -> RecordT:
    """``data`` as a ``model``, or a `CostModelError` naming ``path``, the key and the reason."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CostModelError(f"{path}: {prefix}{_explain(first)}") from error


_KINDS = ("cpu", "gpu", "npu")


def _explain(error: Any) -> str:
    # pydantic puts the tag of a discriminated union into the path: engines.gpu.gpu.clock_ghz.
    raw = [str(part) for part in error["loc"]]
    tagged = len(raw) > 2 and raw[0] == "engines" and raw[2] in _KINDS
    if tagged:
        raw = raw[:2] + raw[3:]
    key = ".".join(raw)
    value = error["input"]
    match error["type"]:
        case "missing":
            return f"{key}: is missing; add it"
        case "extra_forbidden":
            return f"{key}: is not a known key; remove it or correct its spelling"
        case "float_type" | "int_type" if isinstance(value, str):
            return f"{key}: {value!r} is text, not a number; write it as 1.0e+12 or 2.5"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"{key}.kind: must be one of {', '.join(_KINDS)}"
        case _:
            shown = "" if isinstance(value, (dict, list)) else f" (is {value!r})"
            return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}{shown}"


#: Keys that hold choices or provenance rather than figures, and so need no source.
_CHOICES = ("schema", "default", "measured", "sources")


def require_sources(data: Mapping[str, Any], path: Path, prefix: str = "") -> None:
    """Check that every figure in ``data`` is covered by a key of its ``sources``, and vice versa.

    A source key is a dotted prefix (``engines.cpu.clusters``, ``memory``) of the figures that it
    vouches for; its value is a URL or citation, or ``derived: how``. Raises `CostModelError`.
    """
    sources: Mapping[str, str] = data.get("sources", {})
    entries = dict(_leaves(data))
    figures = [key for key, value in entries.items() if not isinstance(value, (str, type(None)))]
    for key, text in sources.items():
        if not text.strip() or text.strip() == "derived:":
            raise CostModelError(f"{path}: {prefix}sources.{key}: is empty; say where it is from")
        if not any(_covers(key, entry) for entry in entries):
            raise CostModelError(f"{path}: {prefix}sources.{key}: covers no figure; remove it")
    for figure in figures:
        if not any(_covers(key, figure) for key in sources):
            raise CostModelError(f"{path}: {prefix}{figure}: has no source; add it to 'sources'")


def _covers(key: str, figure: str) -> bool:
    return figure == key or figure.startswith(key + ".")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            if key or name not in _CHOICES:
                yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}.{index}")
    else:
        yield key, value
