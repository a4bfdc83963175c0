"""How long a battery lasts under a duty cycle."""

from __future__ import annotations

from costmodel.errors import CostModelError


def battery_hours(
    energy_j: float, *, capacity_wh: float, per_hour: float, idle_w: float = 0.0
) -> float:
    """Hours that ``capacity_wh`` lasts at ``per_hour`` runs of ``energy_j`` joules each.

    ``idle_w`` is what the device draws around the runs, asleep or awake; it is drawn all the time.
    Self-discharge and the converter's losses are not modelled. Raises `CostModelError` for a
    negative figure and when nothing is drawn at all.
    """
    figures = {"energy_j": energy_j, "capacity_wh": capacity_wh, "per_hour": per_hour,
               "idle_w": idle_w}  # fmt: skip
    for name, value in figures.items():
        if value < 0:
            raise CostModelError(f"{name} is {value:g}; give a figure that is not negative")
    watts = energy_j * per_hour / 3600 + idle_w
    if watts == 0:
        raise CostModelError("nothing draws power: give runs per hour or an idle draw")
    return capacity_wh / watts
