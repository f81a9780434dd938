"""The GCompris photographs as JPEG of quality 90 whose longer side is 500 pixels, 4:2:0 as libjpeg-turbo stores them,
under many names: `photographs.py SOURCE OUT COUNT`. The same files whenever it runs with the same Pillow."""

import io
import pathlib
import sys

from PIL import Image


def encoded(path: pathlib.Path) -> bytes:
    image = Image.open(path).convert("RGB")
    scale = 500 / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size], Image.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def main() -> None:
    source, out, count = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    photographs = [(path.parent.name, encoded(path)) for path in sorted(source.glob("*/*.webp"))]
    for number in range(count):
        kind, content = photographs[number % len(photographs)]
        folder = out / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04}.jpg").write_bytes(content)


main()
