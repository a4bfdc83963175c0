"""Traced graphs as JSON text, for the cache on disk and for other programs.

Data only: reading a file runs no code. Dimensions must be concrete.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.ir import Op, Recast, TensorSpec, TraceInfo, Weight, graph_of, info_of, ops_of

if TYPE_CHECKING:
    import networkx as nx

FORMAT = 5


def dumps(graph: nx.DiGraph[int]) -> str:
    """The graph as one line of JSON; equal tensor specs are written once."""
    specs: dict[TensorSpec, int] = {}

    def pack(value: Any) -> Any:
        if isinstance(value, TensorSpec):
            return {"$": specs.setdefault(value, len(specs))}
        if isinstance(value, (tuple, list)):
            return [pack(item) for item in value]
        return value

    info = info_of(graph)
    ops = [
        [
            op.name,
            op.target,
            op.overload,
            pack(op.args),
            {key: pack(value) for key, value in op.kwargs.items()},
            pack(op.outputs),
            pack(op.writes),
            op.module,
            op.source,
            op.phase,
        ]
        for op in ops_of(graph)
    ]
    document = {
        "format": FORMAT,
        "ops": ops,
        "edges": [[a, b, data["nbytes"]] for a, b, data in graph.edges(data=True)],
        "inputs": pack(info.inputs),
        "outputs": pack(info.outputs),
        "weights": [list(asdict(weight).values()) for weight in info.weights],
        "mode": info.mode,
        "tracer": info.tracer,
        "module_types": dict(info.module_types),
        "notes": list(info.notes),
        "freed": list(info.freed.items()),
        "specs": [
            [
                s.shape,
                s.dtype,
                s.value,
                s.storage,
                s.kind,
                s.expanded,
                s.contiguous,
                s.channels_last,
                s.strides,
                None if s.recast is None else [s.recast.number, s.recast.to, s.recast.like],
            ]
            for s in specs
        ],
    }
    return json.dumps(document, separators=(",", ":"))


def loads(text: str) -> nx.DiGraph[int]:
    """The graph behind `dumps`. Raises `CostModelError` when the text is not one."""
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        return _graph(document)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CostModelError(f"not a stored trace: {error}; delete it and trace again") from error


def _graph(document: dict[str, Any]) -> nx.DiGraph[int]:
    specs = [
        TensorSpec(tuple(shape), dtype, value, storage, kind, tuple(expanded), contiguous, last,
                   tuple(strides), None if recast is None else Recast(*recast))
        for shape, dtype, value, storage, kind, expanded, contiguous, last, strides, recast
        in document["specs"]
    ]  # fmt: skip

    def unpack(value: Any) -> Any:
        if isinstance(value, dict):
            return specs[value["$"]]
        if isinstance(value, list):
            return tuple([unpack(item) for item in value])
        return value

    ops: list[Op] = []
    for index, packed in enumerate(document["ops"]):
        name, target, overload, args, kwargs, outputs, writes, module, source, phase = packed
        op = Op(
            index,
            name,
            target,
            overload,
            unpack(args),
            {key: unpack(value) for key, value in kwargs.items()},
            unpack(outputs),
            unpack(writes),
            module,
            source,
            phase,
        )
        ops.append(op)
    info = TraceInfo(
        inputs=unpack(document["inputs"]),
        weights=tuple(
            Weight(tuple(names), tuple(shape), dtype, storage, kind)
            for names, shape, dtype, storage, kind in document["weights"]
        ),
        outputs=unpack(document["outputs"]),
        mode=document["mode"],
        tracer=document["tracer"],
        module_types=document["module_types"],
        notes=tuple(document["notes"]),
        freed=dict(document["freed"]),
    )
    return graph_of(ops, {(a, b): nbytes for a, b, nbytes in document["edges"]}, info)
