"""Draw the figures of the documentation, each by the command that a reader would use.

python docs/figures.py [NAME …]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "figures"
MODELS = ("timm:mobilenetv3_large_100", "timm:resnet50", "timm:vit_base_patch16_224")
MOBILE = MODELS[0]
DEVICES = ("--hw", "pixel8", "--hw", "rpi4", "--hw", "rtx4090")
FIGURES = {
    "overview": ("roofline", MOBILE, *DEVICES[:4]),
    "roofline": ("roofline", *MODELS, *DEVICES),
    "modules": ("plot", "modules", MOBILE, "--hw", "pixel8"),
    "layers": ("plot", "layers", MOBILE),
    "memory": ("plot", "memory", MOBILE),
}
#: Figures that are drawn from what another command prints.
FROM_DATA = {"scaling": ("scale", "--family", "efficientnet")}


def costmodel(*words: str) -> None:
    """Run the command; its failure is ours."""
    subprocess.run([sys.executable, "-m", "costmodel", *words], check=True)


def main(names: list[str]) -> None:
    """Draw the named figures, or all."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or [*FIGURES, *FROM_DATA]:
        path = str(FOLDER / f"{name}.svg")
        if name in FIGURES:
            costmodel(*FIGURES[name], "-o", path)
        else:
            with tempfile.TemporaryDirectory() as folder:
                data = str(Path(folder) / "data.json")
                costmodel(*FROM_DATA[name], "--format", "json", "-o", data)
                costmodel("plot", name, data, "--columns", "one", "-o", path)
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
