"""Empty trials by Optuna with its store in SQLite, by two processes: each returns one number.

Prints one JSON object.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time

import optuna

STUDY = "empty"


def work(storage, trials):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_int("seed", 1, 1_000_000) * 0.0 + 0.5, n_trials=trials)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    wanted = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        storage = "sqlite:///" + os.path.join(folder, "optuna.db")
        optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
        processes = [multiprocessing.Process(target=work, args=(storage, wanted.trials // 2)) for _ in range(2)]
        begun = time.perf_counter()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        seconds = time.perf_counter() - begun
        study = optuna.load_study(study_name=STUDY, storage=storage)
        over = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    assert all(process.exitcode == 0 for process in processes) and over == wanted.trials // 2 * 2, over
    print(json.dumps({"what": "optuna, sqlite", "trials": over, "seconds": seconds}))


if __name__ == "__main__":
    main()
