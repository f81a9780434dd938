"""The 16 cells under Ray Tune, two trials at a time: train_cells.py's training in each trial.

    ray_cells.py FOLDER [options of train_cells.py]

Actors are used again for the next trial, which spares starting Python 14 times. Prints a line of JSON. Ray must be importable
beside PyTorch.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS"] = "0"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

import ray  # noqa: E402
from ray import tune  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from train_cells import options_of  # noqa: E402


class Cell(tune.Trainable):
    def setup(self, config):
        sys.path.insert(0, str(HERE))

    def step(self):
        from train_cells import train

        options, (alpha, rho) = options_of(self.config["arguments"])[0], self.config["cell"]
        return {**train(((alpha, rho), options)), "done": True}

    def reset_config(self, new_config):
        self.config = new_config
        return True

    def save_checkpoint(self, folder):
        return folder

    def load_checkpoint(self, folder):
        pass


def main():
    arguments = sys.argv[1:]
    options, cells = options_of(arguments)
    # Ray runs trials in folders of their own.
    arguments[arguments.index(options.folder)] = str(Path(options.folder).resolve())
    began = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            Cell,
            param_space={"cell": tune.grid_search(cells), "arguments": arguments},
            tune_config=tune.TuneConfig(max_concurrent_trials=2, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    assert len(results) == len(cells) and results.num_errors == 0
    images = sum(result.metrics["images"] for result in results)
    ray.shutdown()
    seconds = time.perf_counter() - began
    print(json.dumps({"what": "all, Ray Tune", "images": images, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
