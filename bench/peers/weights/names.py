"""Prints names, types and shapes of timm's models: the lists under dashboards/tests/data/timm.

    python bench/peers/weights/names.py dashboards/tests/data/timm
"""

import sys
from pathlib import Path

import timm

from networks import make

for network, alpha in [
    ("mobilenet", 1),
    ("mobilenet", 0.75),
    ("mobilenet", 0.25),
    ("shallow_mobilenet", 0.5),
    ("conv_mobilenet", 0.25),
]:
    lines = [f"# timm {timm.__version__}: {network}, channel multiplier {alpha}, 10 classes"]
    for name, tensor in make(network, alpha, 10).state_dict().items():
        lines.append(f"{name} {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}")
    Path(sys.argv[1], f"{network}-{alpha}.txt").write_text("\n".join(lines) + "\n")
