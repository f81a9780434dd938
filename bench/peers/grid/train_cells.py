"""The 16 cells of alpha x rho as PyTorch users train them: one after the other, each reading its own images.

    train_cells.py FOLDER [--cells 1:224,0.25:128] [--loaders 2] [--channels-last] [--threads 2]
                   [--together 1] [--compile]

FOLDER/train has a folder per class, as FOLDER/validation. One epoch of batches of 32: RandomResizedCrop (area 0.25 to
1, aspect 0.75 to 1.333), mirrored at random, RMSprop with the paper's settings, then the images held out. Prints a line of JSON a cell
and one for all. `--together 2` trains two cells at a time in processes of their own, as Ray Tune's trials would.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parent.parent / "weights"))
from networks import make  # noqa: E402

BATCH = 32
CELLS = [(alpha, rho) for alpha in (1, 0.75, 0.5, 0.25) for rho in (224, 192, 160, 128)]
NORMALIZE = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]


def model_of(alpha, classes, options):
    torch.manual_seed(1)
    model = make("mobilenet", alpha, classes)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def optimizer_of(model):
    return torch.optim.RMSprop(model.parameters(), lr=0.01, alpha=0.9, momentum=0.9, eps=1.0, weight_decay=4e-5)


def train(cell):
    """One cell from its first image to its accuracy; its seconds and images."""
    (alpha, rho), options = cell
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    crop = v2.RandomResizedCrop(rho, scale=(0.25, 1.0), ratio=(0.75, 1.333), antialias=True)
    random = v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip(), *NORMALIZE])
    whole = v2.Compose([v2.ToImage(), v2.Resize(rho), v2.CenterCrop(rho), *NORMALIZE])
    training = datasets.ImageFolder(f"{options.folder}/train", random)
    validation = datasets.ImageFolder(f"{options.folder}/validation", whole)
    classes = len(training.classes)
    assert classes == len(validation.classes)
    loaders = {"batch_size": BATCH, "num_workers": options.loaders}
    model = model_of(alpha, classes, options)
    torch._dynamo.reset()
    step = torch.compile(model) if options.compile else model
    optimizer, loss_of = optimizer_of(model), nn.CrossEntropyLoss()
    model.train()
    images = 0
    for pixels, labels in DataLoader(training, shuffle=True, **loaders):
        if options.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        loss_of(step(pixels), labels).backward()
        optimizer.step()
        images += len(labels)
    model.eval()
    right = 0
    with torch.inference_mode():
        for pixels, labels in DataLoader(validation, **loaders):
            if options.channels_last:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            right += (model(pixels).argmax(1) == labels).sum().item()
    seconds = time.perf_counter() - began
    return {"what": "cell", "alpha": alpha, "resolution": rho, "images": images, "seconds": seconds, "right": right}


def peak_mib():
    """The most memory that this process ever had, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def options_of(arguments):
    """What the command line says, and the cells that it means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--cells", help="ALPHA:RHO,..; all 16 if not given")
    parser.add_argument("--loaders", type=int, default=2, help="loader processes of a cell")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--together", type=int, default=1, help="cells at a time")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args(arguments)
    cells = CELLS
    if options.cells:
        pairs = [pair.split(":") for pair in options.cells.split(",")]
        cells = [(float(alpha), int(rho)) for alpha, rho in pairs]
    return options, cells


def main():
    options, cells = options_of(sys.argv[1:])
    began = time.perf_counter()
    jobs = [(cell, options) for cell in cells]
    if options.together > 1:
        with ProcessPoolExecutor(options.together, mp_context=get_context("spawn")) as pool:
            trained = list(pool.map(train, jobs))
    else:
        trained = []
        for job in jobs:
            trained.append(train(job))
            print(json.dumps(trained[-1]), flush=True)
    seconds = time.perf_counter() - began
    images = sum(cell["images"] for cell in trained)
    print(json.dumps({"what": "all", "images": images, "seconds": seconds, "peak_mib": peak_mib()}), flush=True)


if __name__ == "__main__":
    main()
