"""The report as one HTML file: no network, no server, nothing beside it.

The page holds its data as JSON and draws it with a small script, so that devices can be switched,
rows sorted and kernels filtered while it lies on a disk. What the roofline shows is what
``costmodel roofline --format json`` prints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodel import memory, roofline
from costmodel.errors import CostModelError
from costmodel.plot import roofline as figure
from costmodel.plot import style
from costmodel.report import typeset, units
from costmodel.report.advice import advice, without_device
from costmodel.report.formats import basis, to_dict

if TYPE_CHECKING:
    from costmodel.prediction import Prediction
    from costmodel.report.findings import Findings

#: Devices that a page offers besides the report's own, when none are named.
DEVICES = ("pixel8", "rpi4", "jetson-orin-nano", "i7-12700h", "rtx4090", "h100-sxm")
_TEMPLATES = Path(__file__).with_name("templates")


def render(report: Findings, devices: Sequence[str] | None = None) -> str:
    """The page of a report, to be saved as one file.

    It can be switched between the report's own device and ``devices`` (names of profiles;
    `DEVICES` when ``None``). Raises `CostModelError` for a device that was named and cannot be
    used, and where jinja2 is not installed.
    """
    if report.peak_activation_bytes is None:
        raise CostModelError("a page needs numbers; put them in with table.at(...) first")
    found = [report.prediction] if report.prediction else []
    for name in DEVICES if devices is None else devices:
        try:
            made = roofline.predict(report.table, name)
        except CostModelError:
            if devices is None:
                continue
            raise
        if made.hw not in [known.hw for known in found]:
            found.append(made)
    return _page(report.target, page_data(report, found))


def roofline_page(panels: Sequence[Mapping[str, Any]]) -> str:
    """A page with nothing but rooflines, between which it can be switched."""
    title = ", ".join(dict.fromkeys(str(panel["target"]) for panel in panels))
    devices = [
        {"title": f"{panel['target']} on {_setting(panel)}", "roofline": panel} for panel in panels
    ]
    return _page(title, {"target": title, "devices": devices, "classes": _classes()})


def page_data(report: Findings, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Everything that the page shows. Counts are exact; times keep five digits."""
    found = to_dict(report)
    rows = report.table.rows
    ops = [row.op for row in rows]
    modules = list(dict.fromkeys(op.module for op in ops))
    place = {path: index for index, path in enumerate(modules)}
    levels = memory.timeline(ops, report.table.info)
    return {
        "target": report.target,
        "inputs": [f"{'x'.join(map(str, s['shape']))} {s['dtype']}" for s in found["inputs"]],
        "mode": found["mode"],
        "totals": found["totals"],
        "complete": report.complete,
        "unsupported": found["unsupported"],
        "notes": found["notes"],
        "modules": [[path, report.table.info.module_types.get(path, "")] for path in modules],
        "params": {
            path: total.params for path, total in report.table.group_by("module").items()
        },
        "ops": [
            {
                "name": op["name"],
                "op": op["op"],
                "module": place[op["module"]],
                "family": op["family"],
                "shape": op["output_shape"],
                "counts": [op["params"], op["macs"], op["ops"], op["bytes_read"],
                           op["bytes_written"]],
                "formula": [typeset.macs(row), typeset.ops(row)],
            }
            for op, row in zip(found["ops"], rows, strict=True)
        ],
        "memory": levels,
        "classes": _classes(),
        "advice": None if predictions else without_device(report.table),
        "devices": [_device(report, made, place) for made in predictions],
    }  # fmt: skip


def _device(report: Findings, made: Prediction, place: Mapping[str, int]) -> dict[str, Any]:
    names = {row.op.name: index for index, row in enumerate(report.table.rows)}
    panel = figure.data(report.target, made)
    kernels = []
    for kernel in made.kernels:
        known = [names[name] for name in kernel.ops if name in names]
        own = [i for i in known if report.table.rows[i].op.module == kernel.module]
        kernels.append(
            [
                place.get(kernel.module, place.get("", -1)), (own or [-1])[0], kernel.family,
                kernel.latency_s, kernel.bound, known,
            ]
        )  # fmt: skip
    low, high = map(units.seconds, made.interval_s)
    return {
        "title": _setting(panel),
        "latency": units.seconds(made.latency_s),
        "interval": f"{low} to {high}",
        "coverage": units.percent(made.coverage),
        "energy": units.joules(made.energy_j) if made.energy_j is not None else None,
        "basis": basis(replace(report, prediction=made)),
        "bound": dict(made.bound),
        "advice": advice(made),
        "notes": list(made.notes),
        "kernels": kernels,
        "roofline": panel,
    }


def _setting(panel: Mapping[str, Any]) -> str:
    threads = f", {panel['threads']} threads" if panel["threads"] else ""
    return f"{panel['hw']}, {panel['dtype']}, {panel['execution']}, {panel['layout']}{threads}"


def _classes() -> dict[str, Any]:
    return {
        "looks": {name: [look.colour, look.marker] for name, look in style.CLASSES.items()},
        "members": style.MEMBERS,
        "bounds": {name: look.colour for name, look in style.BOUNDS.items()},
    }


def _page(title: str, data: Mapping[str, Any]) -> str:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise CostModelError(
            "an HTML page needs jinja2; try: pip install 'torch-costmodel[html]'"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    # In a script element only "<" could end the data early.
    text = json.dumps(_rounded(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return environment.get_template("page.html").render(
        title=title,
        data=text.replace("<", "\\u003c"),
        style=(_TEMPLATES / "page.css").read_text(),
        scripts=[(_TEMPLATES / name).read_text() for name in _SCRIPTS],
    )


_SCRIPTS = ("base.js", "tree.js", "roofline.js", "memory.js", "page.js")


def _rounded(value: Any) -> Any:
    """Floats with five significant digits, which is more than a screen shows."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
