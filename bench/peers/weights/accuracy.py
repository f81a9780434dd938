"""Accuracy of exported networks on Fashion-MNIST's 10,000 test images, by onnxruntime alone. For networks of 28 x 28
pixels, which need no resizing, it must equal what the sweep reported.

    accuracy.py FOLDER_OF_FASHION_MNIST NETWORK.onnx ...
"""

import gzip
import sys

import numpy
import onnxruntime

BATCH = 500


def read(path, offset):
    with gzip.open(path) as file:
        return numpy.frombuffer(file.read(), numpy.uint8, offset=offset)


def main():
    folder, *networks = sys.argv[1:]
    images = read(f"{folder}/t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = read(f"{folder}/t10k-labels-idx1-ubyte.gz", 8)
    for network in networks:
        session = onnxruntime.InferenceSession(network)
        right = 0
        for first in range(0, len(labels), BATCH):
            batch = images[first : first + BATCH].astype(numpy.float32) / 127.5 - 1
            logits = session.run(None, {"images": numpy.repeat(batch[:, None], 3, 1)})[0]
            right += int((logits.argmax(1) == labels[first : first + BATCH]).sum())
        print(f"{network}: {right / len(labels):.4f}")


if __name__ == "__main__":
    main()
