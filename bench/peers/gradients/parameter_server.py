"""The same exchange by PyTorch's own means: replicas that compute nothing send gradients by torch.distributed.rpc
(TensorPipe) to one process, which applies RMSprop as TensorFlow defines it and answers with the parameters.

Prints one JSON object: pushes a second, and megabytes a second in both directions together.
"""

import argparse
import json
import os
import threading
import time

import torch
import torch.distributed.rpc as rpc
import torch.multiprocessing as processes

DECAY, MOMENTUM, EPSILON, RATE = 0.9, 0.9, 1.0, 1e-6


class Chief:
    def __init__(self, values):
        self.lock = threading.Lock()
        self.weights = torch.zeros(values)
        self.mean_square = torch.ones(values)
        self.momentum = torch.zeros(values)
        self.pushes = 0

    def push(self, gradient):
        with self.lock:
            self.mean_square.lerp_(gradient.square(), 1 - DECAY)
            self.momentum.mul_(MOMENTUM).addcdiv_(gradient, (self.mean_square + EPSILON).sqrt_(), value=RATE)
            self.weights.sub_(self.momentum)
            self.pushes += 1
            # As RPC sends it later, it must not change meanwhile.
            return self.weights.clone()

    def count(self):
        return self.pushes


CHIEF = None


def push(gradient):
    return CHIEF.push(gradient)


def count():
    return CHIEF.count()


def options():
    return rpc.TensorPipeRpcBackendOptions(num_worker_threads=16, rpc_timeout=120)


def run(rank, replicas, values, seconds, results):
    global CHIEF
    torch.set_num_threads(1)
    world = replicas + 1
    if rank == 0:
        CHIEF = Chief(values)
        rpc.init_rpc("chief", rank=0, world_size=world, rpc_backend_options=options())
        time.sleep(seconds / 2)
        before, started = CHIEF.count(), time.monotonic()
        time.sleep(seconds)
        results.put((CHIEF.count() - before) / (time.monotonic() - started))
    else:
        rpc.init_rpc(f"replica{rank}", rank=rank, world_size=world, rpc_backend_options=options())
        gradient = torch.full((values,), 1e-3)
        until = time.monotonic() + 2 * seconds
        while time.monotonic() < until:
            rpc.rpc_sync("chief", push, args=(gradient,))
    rpc.shutdown()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--values", type=int, required=True)
    arguments.add_argument("--replicas", type=int, required=True)
    arguments.add_argument("--seconds", type=float, default=4)
    arguments.add_argument("--alpha", type=float, default=0)
    known = arguments.parse_args()
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29571")
    results = processes.get_context("spawn").SimpleQueue()
    processes.spawn(run, (known.replicas, known.values, known.seconds, results), nprocs=known.replicas + 1)
    per_second = results.get()
    print(json.dumps({
        "what": "pytorch",
        "alpha": known.alpha,
        "wire": "f32",
        "replicas": known.replicas,
        "per_second": round(per_second, 2),
        "megabytes_per_second": round(2 * 4 * known.values * per_second / 1e6, 1),
    }))


if __name__ == "__main__":
    main()
