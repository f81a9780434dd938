"""Loads the event files of all trials with TensorBoard's own reader, as it does before it can show a curve.

Prints one JSON object: the seconds it took, and how many scalars there were.
"""

import argparse
import json
import pathlib
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    runs = sorted({file.parent for file in folder.rglob("events.out.tfevents.*")})
    begun, scalars = time.monotonic(), 0
    for run in runs:
        events = EventAccumulator(str(run), size_guidance={"scalars": 0})
        events.Reload()
        scalars += sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"])
    seconds = time.monotonic() - begun
    print(json.dumps({"what": "tensorboard", "runs": len(runs), "scalars": scalars, "seconds": seconds}))


if __name__ == "__main__":
    main()
