"""Empty tasks by HyperQueue's LocalCluster, with one worker of two cores: each runs /bin/true. Nothing is stored.

Prints one JSON object.
"""

import argparse
import json
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    wanted = parser.parse_args()
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()
        job = Job()
        for _ in range(wanted.trials):
            job.program(["/bin/true"], stdout=None, stderr=None)
        begun = time.perf_counter()
        submitted = client.submit(job)
        client.wait_for_jobs([submitted])
        seconds = time.perf_counter() - begun
    print(json.dumps({"what": "hyperqueue, not stored", "trials": wanted.trials, "seconds": seconds}))


if __name__ == "__main__":
    main()
