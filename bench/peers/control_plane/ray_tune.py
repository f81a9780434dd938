"""Empty trials by Ray Tune, two at a time: each reports one number and is over.

Prints one JSON object. With --reuse, actors are used again for the next trial, which is not the default.
"""

import argparse
import json
import os
import tempfile
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import ray
from ray import tune


class Empty(tune.Trainable):
    def step(self):
        return {"val_top1": 0.5, "done": True}

    def reset_config(self, new_config):
        return True

    def save_checkpoint(self, folder):
        return folder

    def load_checkpoint(self, folder):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--reuse", action="store_true")
    wanted = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            Empty,
            param_space={"seed": tune.grid_search(list(range(1, wanted.trials + 1)))},
            tune_config=tune.TuneConfig(max_concurrent_trials=2, reuse_actors=wanted.reuse),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        begun = time.perf_counter()
        results = tuner.fit()
        seconds = time.perf_counter() - begun
    assert len(results) == wanted.trials and results.num_errors == 0
    ray.shutdown()
    what = "ray tune, actors used again" if wanted.reuse else "ray tune"
    print(json.dumps({"what": what, "trials": wanted.trials, "seconds": seconds}))


if __name__ == "__main__":
    main()
