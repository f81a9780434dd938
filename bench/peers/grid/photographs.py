"""Photographs as JPEG files of quality 90, at most 500 x 375 pixels, in a folder per class.

    photographs.py FROM OUT --train 2000 --validation 16

FROM has a folder per class. They are taken in the order of their names, again and again under other names, until there
are as many as wanted; the validation set is taken from the end of that order.
"""

import argparse
from pathlib import Path

from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--validation", type=int, default=16)
    options = parser.parse_args()
    kinds = {".webp", ".jpg", ".jpeg", ".png"}
    found = sorted(path for path in options.source.rglob("*") if path.suffix.lower() in kinds)
    # Classes in turn, so that the first few files hold all of them.
    by_class = {}
    for path in found:
        by_class.setdefault(path.parent.name, []).append(path)
    order = []
    for place in range(max(len(paths) for paths in by_class.values())):
        order.extend(paths[place] for paths in by_class.values() if place < len(paths))
    wanted = [("train", index, order[index % len(order)]) for index in range(options.train)]
    wanted += [("validation", index, order[-1 - index % len(order)]) for index in range(options.validation)]
    encoded = {}
    for part, index, path in wanted:
        folder = options.out / part / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        to = folder / f"{index:05}.jpg"
        if path in encoded:
            to.write_bytes(encoded[path].read_bytes())
            continue
        with Image.open(path) as picture:
            picture = picture.convert("RGB")
            scale = min(500 / picture.width, 375 / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture.resize(size, Image.Resampling.LANCZOS).save(to, quality=90)
        encoded[path] = to


if __name__ == "__main__":
    main()
