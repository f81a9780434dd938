"""Images a second of one training step of each cell, made-up images, PyTorch: eager and compiled.

    steps.py eager|compiled|profiled [--cells 1:224,..] [--threads 2] [--seconds 2]

Batches of 32, channels_last, forward, backward and RMSprop's fused-for-each update. Prints a line of JSON a cell. `profiled`: the
eager one under PyTorch's own profiler (Kineto), with each operation's share of the time instead.
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


def step_of(alpha, rho, options):
    """A function that does one step."""
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
    return once


def measure(alpha, rho, options):
    once = step_of(alpha, rho, options)
    steps, began = 0, time.perf_counter()
    while steps < 3 or time.perf_counter() - began < options.seconds:
        once()
        steps += 1
    return steps * BATCH / (time.perf_counter() - began)


def profile(alpha, rho, options):
    """Of the time that operations take themselves: the shares of those that take most."""
    once = step_of(alpha, rho, options)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(5):
            once()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    together = sum(times.values())
    largest = sorted(times.items(), key=lambda item: -item[1])[:12]
    return {name: round(spent / together, 3) for name, spent in largest}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("how", choices=["eager", "compiled", "profiled"])
    parser.add_argument("--cells")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells = CELLS
    if options.cells:
        cells = [(float(alpha), int(rho)) for alpha, rho in (pair.split(":") for pair in options.cells.split(","))]
    for alpha, rho in cells:
        measured = {"what": options.how, "alpha": alpha, "resolution": rho}
        if options.how == "profiled":
            measured["shares"] = profile(alpha, rho, options)
        else:
            measured["images_per_second"] = measure(alpha, rho, options)
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
