"""Images a second of one training step of each cell, made-up images, PyTorch: eager and compiled.

    steps.py eager|compiled [--cells 1:224,..] [--threads 2] [--seconds 2]

Batches of 32, channels_last, forward, backward and RMSprop's fused-for-each update. Prints a line of JSON a cell.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from train_cells import BATCH, CELLS, model_of, optimizer_of  # noqa: E402


def measure(alpha, rho, options):
    options.channels_last = True
    # After 8 networks it would give up compiling.
    torch._dynamo.reset()
    model = model_of(alpha, 1000, options).train()
    step = torch.compile(model) if options.how == "compiled" else model
    optimizer, loss_of = optimizer_of(model), nn.CrossEntropyLoss()
    pixels = torch.rand(BATCH, 3, rho, rho).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.long)

    def once():
        optimizer.zero_grad(set_to_none=True)
        loss_of(step(pixels), labels).backward()
        optimizer.step()

    for _ in range(3):
        once()
    steps, began = 0, time.perf_counter()
    while steps < 3 or time.perf_counter() - began < options.seconds:
        once()
        steps += 1
    return steps * BATCH / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["eager", "compiled"])
    parser.add_argument("--cells")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells = CELLS
    if options.cells:
        cells = [(float(alpha), int(rho)) for alpha, rho in (pair.split(":") for pair in options.cells.split(","))]
    for alpha, rho in cells:
        rate = measure(alpha, rho, options)
        print(json.dumps({"what": options.how, "alpha": alpha, "resolution": rho, "images_per_second": rate}), flush=True)


if __name__ == "__main__":
    main()
