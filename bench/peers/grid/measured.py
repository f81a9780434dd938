"""Runs a command; prints how long it took and the most memory that any of its processes had, as a line of JSON.

    measured.py [--warm GIB] COMMAND..

`--warm` first takes so much memory, writes to it and gives it back. Under a hypervisor that takes free memory away from its
guests (free page reporting), whoever runs first would pay for getting it back, up to two seconds a GiB.
"""

import json
import mmap
import os
import subprocess
import sys
import time

PAGE = 4096


def warm(gib):
    """In a process of its own, so that what it takes is not counted."""
    child = os.fork()
    if child == 0:
        size = int(gib * 2**30)
        memory = mmap.mmap(-1, size)
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[::PAGE] = b"1" * (size // PAGE)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{gib} GiB of memory could not be had")


command = sys.argv[1:]
if command[0] == "--warm":
    warm(float(command[1]))
    command = command[2:]
began = time.perf_counter()
_, status, usage = os.wait4(subprocess.Popen(command, stdout=sys.stderr).pid, 0)
seconds = time.perf_counter() - began
if status:
    sys.exit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}")
print(json.dumps({"seconds": seconds, "peak_mib": usage.ru_maxrss / 1024}))
