"""Calibration files: constants of machine models fixed on one device, and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from costmodel.errors import CostModelError
from costmodel.files import write_atomic

if TYPE_CHECKING:
    from costmodel.prediction import Prediction
    from costmodel.setting import Setting

#: Share of measured runs that the interval of an entry held.
COVERAGE = 0.8
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Entry(BaseModel):
    """The constants of one setting. The interval of a prediction is it x [``low``, ``high``]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hw: str
    execution: str
    layout: str
    dtype: str
    tier: str
    basis: str
    low: Positive
    high: Positive
    constants: Mapping[str, Annotated[float, Field(allow_inf_nan=False)]]

    @model_validator(mode="after")
    def _ordered(self) -> Entry:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Calibration(BaseModel):
    """What a calibration file holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entries: tuple[Entry, ...]
    costmodel_calibration: int = 1

    def entry(self, chosen: Setting) -> Entry:
        """The entry of a setting, or else one of its device and execution in another format.

        Raises `CostModelError` naming what the file has.
        """
        same = [e for e in self.entries if (e.hw, e.execution) == (chosen.hw, chosen.execution)]
        if not same:
            have = ", ".join(sorted({f"{e.hw} {e.execution}" for e in self.entries})) or "nothing"
            raise CostModelError(
                f"the calibration has {have}, not {chosen.hw} {chosen.execution}; "
                "calibrate that, or leave --calibration out"
            )

        def apart(entry: Entry) -> int:
            return (entry.dtype != chosen.dtype) * 2 + (entry.layout != chosen.layout)

        return min(same, key=apart)


def with_interval(prediction: Prediction, entry: Entry) -> Prediction:
    """A prediction made with the constants of ``entry``, its interval as wide as that one's errors.

    Says so where the entry was measured in another format than the prediction.
    """
    notes = prediction.notes
    if (entry.dtype, entry.layout) != (prediction.dtype, prediction.layout):
        notes += (f"calibrated in {entry.dtype} {entry.layout}, not in this format",)
    return replace(
        prediction,
        interval_s=(prediction.latency_s * entry.low, prediction.latency_s * entry.high),
        coverage=COVERAGE,
        basis="calibrated",
        validated=f"calibrated on this device: {entry.basis}",
        notes=notes,
    )


def load(path: str | Path) -> Calibration:
    """Read a calibration file. Raises `CostModelError` naming the file and the key."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.get("costmodel_calibration") != 1:
            raise CostModelError(
                f"{path} is no calibration file; costmodel validate --calibration-out writes one"
            )
        return Calibration.model_validate(document)
    except OSError as error:
        raise CostModelError(f"cannot read {path}: {error.strerror}; name another file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CostModelError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CostModelError(f"{path}: {key}: {first['msg']}; correct it") from error


def save(calibration: Calibration, path: str | Path) -> None:
    """Write a calibration file, whole or not at all."""
    document = calibration.model_dump(mode="json")
    document = {"costmodel_calibration": document.pop("costmodel_calibration"), **document}
    write_atomic(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))
