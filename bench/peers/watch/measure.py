"""Starts `alpharho watch` in a pseudo-terminal and measures it as a user would feel it: the time from the start to
the first full screen, then the share of a core and the memory it takes while nothing happens.

Prints one JSON object.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

# What the first full screen ends with: the last row of the dashboard.
LAST_ROW = b"leave"
COLUMNS, ROWS = 120, 40


def start(program, arguments):
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", LC_ALL="C.UTF-8", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execv(program, [program, *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    return process, terminal


def until_full(terminal, sweep, limit_seconds=120.0):
    """Reads until the sweep's name and the last row were drawn."""
    drawn, begun = b"", time.monotonic()
    while time.monotonic() - begun < limit_seconds:
        if select.select([terminal], [], [], 0.5)[0]:
            drawn += os.read(terminal, 1 << 16)
            # Blanks may be skipped by moving the cursor; words are whole.
            if LAST_ROW in drawn and sweep.encode() in drawn and b"against" in drawn:
                return True
    return False


def ticks(process):
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def memory_bytes(process):
    with open(f"/proc/{process}/smaps_rollup") as file:
        rows = dict(line.split(":", 1) for line in file if ":" in line and line[0].isupper())
    return {name: int(rows[name].split()[0]) * 1024 for name in ("Rss", "Pss_Anon")}


def drain(terminal, seconds):
    until, count = time.monotonic() + seconds, 0
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                count += len(os.read(terminal, 1 << 16))
            except OSError:
                # The program has ended.
                return count
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("sweep")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=20.0)
    parser.add_argument("--store", required=True)
    options = parser.parse_args()
    arguments = ["watch", options.sweep, "--store", options.store]
    seconds = []
    for place in range(options.times):
        begun = time.monotonic()
        process, terminal = start(options.program, arguments)
        if not until_full(terminal, options.sweep):
            sys.exit("no full screen was drawn")
        seconds.append(time.monotonic() - begun)
        if place == options.times - 1:
            drain(terminal, 3.0)
            before = ticks(process)
            written = drain(terminal, options.idle_seconds)
            used = (ticks(process) - before) / os.sysconf("SC_CLK_TCK")
            memory = memory_bytes(process)
        os.kill(process, signal.SIGTERM)
        drain(terminal, 0.2)
        os.waitpid(process, 0)
        os.close(terminal)
    seconds.sort()
    print(json.dumps({
        "what": "watch",
        "sweep": options.sweep,
        "first_screen_seconds": seconds[len(seconds) // 2],
        "idle_cpu_share": used / options.idle_seconds,
        "idle_bytes_written": written,
        "resident_bytes": memory["Rss"],
        "resident_anonymous_bytes": memory["Pss_Anon"],
    }))


if __name__ == "__main__":
    main()
