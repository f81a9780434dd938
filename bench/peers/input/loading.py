"""torchvision's input on one core: `loading.py FOLDER RESOLUTIONS SECONDS WAY`, a line of JSON.

Ways: `tensor` (decode_jpeg, v2 transforms on uint8), `tensor-nhwc` (the same with channels last, which its resize is
faster on), `pil` (Pillow, v2 transforms); `decode`: decode_jpeg alone. Several resolutions: decoded once, the same crop
resized for each. Time is the processor's time of this process, as ours is measured."""

import io
import json
import pathlib
import sys
import time

import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

torch.set_num_threads(1)
CROP = v2.RandomResizedCrop(224, scale=(0.25, 1.0), ratio=(0.75, 1.333), antialias=True)


def tensor(content: bytes) -> torch.Tensor:
    return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)


def tensor_nhwc(content: bytes) -> torch.Tensor:
    return tensor(content)[None].contiguous(memory_format=torch.channels_last)


def pil(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def show(image, resolutions: list[int]) -> list[torch.Tensor]:
    part = CROP.make_params([image])
    box = [part["top"], part["left"], part["height"], part["width"]]
    mirrored = bool(torch.rand(()) < 0.5)
    shown = []
    for resolution in resolutions:
        out = functional.resized_crop(image, *box, size=[resolution, resolution], antialias=True)
        if mirrored:
            out = functional.horizontal_flip(out)
        shown.append(functional.pil_to_tensor(out) if isinstance(out, Image.Image) else out)
    return shown


def main() -> None:
    folder, resolutions, seconds, way = sys.argv[1:5]
    resolutions = [int(text) for text in resolutions.split(",")]
    decode = {"tensor": tensor, "tensor-nhwc": tensor_nhwc, "pil": pil, "decode": tensor}[way]
    files = sorted(pathlib.Path(folder).glob("*/*.jpg"))
    end = time.monotonic() + float(seconds)
    images, begun = 0, time.process_time()
    while time.monotonic() < end:
        for file in files[images % len(files) :][:100]:
            image = decode(file.read_bytes())
            if way != "decode":
                show(image, resolutions)
            images += 1
    spent = time.process_time() - begun
    print(json.dumps({"what": way, "images": images, "seconds": spent, "per_second": images / spent}))


main()
