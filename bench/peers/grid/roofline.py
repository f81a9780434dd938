"""What this machine can do at most, by libtorch's own kernels: how fast it multiplies, and how fast memory is read and copied.

    roofline.py [--threads 2]

Prints a line of JSON: the best of 10 for each. `convolve`: a pointwise convolution of 512 channels at 14 x 14, batches of 32, which
oneDNN computes; `multiply`: matrices of 2048 x 2048, which MKL does. Buffers of 256 MiB for memory.
"""

import argparse
import json
import time

import torch
from torch.nn.functional import conv2d


def best(work, times=10):
    work()
    shortest = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    source = torch.rand(64 << 20)
    target = torch.empty_like(source)
    square = torch.rand(2048, 2048)
    pixels = torch.rand(32, 512, 14, 14).contiguous(memory_format=torch.channels_last)
    filters = torch.rand(512, 512, 1, 1).contiguous(memory_format=torch.channels_last)
    size = source.numel() * 4
    rates = {
        "what": "roofline",
        "convolve_gflops": 2 * 32 * 14 * 14 * 512 * 512 / best(lambda: conv2d(pixels, filters)) / 1e9,
        "multiply_gflops": 2 * 2048**3 / best(lambda: square @ square) / 1e9,
        "read_gb_s": size / best(source.sum) / 1e9,
        "copy_gb_s": 2 * size / best(lambda: target.copy_(source)) / 1e9,
    }
    print(json.dumps(rates), flush=True)


if __name__ == "__main__":
    main()
