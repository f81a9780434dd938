"""Holds exported networks against our own logits, and TensorBoard's event files against the table of metrics.

    python bench/peers/weights/check.py EXPORT --artifacts DIR --logits PROGRAM [--report FILE]

EXPORT is a folder of `alpharho export SWEEP --only weights,onnx,tensorboard,metrics.csv`. For each trial, our logits are
computed by PROGRAM (`cargo build -p alpharho-trainer --example logits`) from the checkpoint itself, found among the
artifacts by the hash that the export names. The same images then go through timm's model, loaded with `strict=True`, and
through onnxruntime. `cargo xtask peers` does all of it.
"""

import argparse
import csv
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

from networks import make

LIMIT = 1e-4
IMAGES = 8


def images(side: int) -> np.ndarray:
    """u8, [n, side, side, 3]: half of it noise, half smooth, the same in each run."""
    random = np.random.default_rng(side)
    noise = random.integers(0, 256, (IMAGES // 2, side, side, 3))
    y, x = np.mgrid[0:side, 0:side] / side
    waves = []
    for _ in range(IMAGES - IMAGES // 2):
        a, b, c = random.uniform(0.5, 6, (3, 3))
        waves.append(127.5 + 127.5 * np.sin(x[..., None] * a + y[..., None] * b + c))
    return np.concatenate([noise, np.stack(waves)]).round().clip(0, 255).astype(np.uint8)


def checkpoint(artifacts: Path, sha256: str) -> Path:
    """The artifact of that hash; its first digits are in its name."""
    for path in sorted(artifacts.rglob(f"*{sha256[:8]}.safetensors")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return path
    sys.exit(f"no file below {artifacts} has the SHA-256 {sha256}; export again, or name another folder")


def our_logits(program: Path, path: Path, pixels: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder, "images.safetensors"), Path(folder, "logits.safetensors")
        save_file({"images": pixels}, given)
        subprocess.run([program, path, given, out], check=True)
        return load_file(out)["logits"]


def timm_logits(path: Path, about: dict[str, str], batch: np.ndarray) -> np.ndarray:
    model = make(about["network"], float(about["alpha"]), int(about["classes"]), about["activation"])
    model.load_state_dict(load_torch(path), strict=True)
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(batch)).numpy()


def onnx_logits(path: Path, about: dict[str, str], batch: np.ndarray) -> np.ndarray:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17, model.opset_import
    entries = {entry.key: entry.value for entry in model.metadata_props}
    for key in ["sweep", "trial", "alpha", "resolution", "classes", "normalisation", "checkpoint_sha256"]:
        assert entries[key] == about[key], (key, entries[key], about[key])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    whole = session.run(["logits"], {"images": batch})[0]
    # Any number of images.
    single = session.run(["logits"], {"images": batch[:1]})[0]
    assert np.abs(single - whole[:1]).max() <= LIMIT
    return whole


def check_networks(export: Path, artifacts: Path, program: Path) -> list[dict]:
    rows = []
    for path in sorted((export / "weights").glob("*.safetensors")):
        with safe_open(path, "np") as file:
            about = file.metadata()
        pixels = images(int(about["resolution"]))
        # What the files say of normalisation.
        batch = (pixels.astype(np.float32) / np.float32(127.5) - 1).transpose(0, 3, 1, 2).copy()
        ours = our_logits(program, checkpoint(artifacts, about["checkpoint_sha256"]), pixels)
        difference = lambda theirs: float(np.abs(theirs - ours).max())
        row = {
            "trial": path.stem,
            "largest logit": float(np.abs(ours).max()),
            "timm": difference(timm_logits(path, about, batch)) if not about["timm"].startswith("none") else None,
            "onnxruntime": difference(onnx_logits(export / "onnx" / f"{path.stem}.onnx", about, batch)),
            "statistics": about["batch_norm_statistics"].split(";")[0],
        }
        print(f"{row['trial']:<20} timm {show(row['timm'])}  onnxruntime {show(row['onnxruntime'])}", flush=True)
        rows.append(row)
    return rows


def check_events(export: Path) -> tuple[int, int, int]:
    """Runs, tags and scalars that TensorBoard's own reader gives back equal to the table of metrics."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    expected: dict[tuple[int, str, int], float] = {}
    with (export / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            expected[int(row["trial"]), row["name"], int(row["step"])] = float(row["value"])
    read: dict[tuple[int, str, int], float] = {}
    runs = sorted(path for path in (export / "tensorboard").iterdir() if path.is_dir())
    tags = set()
    for run in runs:
        # Otherwise the reader keeps a sample of each tag.
        accumulator = EventAccumulator(str(run), size_guidance={SCALARS: 0}).Reload()
        for tag in accumulator.Tags()["scalars"]:
            tags.add(tag)
            for event in accumulator.Scalars(tag):
                read[int(run.name.split("-")[1]), tag.split("/", 1)[1], event.step] = event.value
    assert read.keys() == expected.keys(), sorted(read.keys() ^ expected.keys())[:5]
    wrong = [key for key, value in expected.items() if np.float32(value) != np.float32(read[key])]
    assert not wrong, wrong[:5]
    return len(runs), len(tags), len(read)


def show(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("export", type=Path)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--logits", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()

    rows = check_networks(arguments.export, arguments.artifacts, arguments.logits)
    if not rows:
        sys.exit(f"{arguments.export / 'weights'} holds no weights")
    differences = [row[peer] for row in rows for peer in ("timm", "onnxruntime") if row[peer] is not None]
    lines = ["| trial | largest logit | timm | onnxruntime | BatchNorm's statistics |", "|---|---:|---:|---:|---|"]
    for row in rows:
        lines.append(
            f"| {row['trial']} | {row['largest logit']:.2f} | {show(row['timm'])} | {show(row['onnxruntime'])} "
            f"| {row['statistics']} |"
        )
    lines.append("")
    versions = f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    lines.append(f"{len(rows)} networks; largest difference of a logit {max(differences):.1e} ({versions})")
    runs, tags, scalars = check_events(arguments.export)
    lines.append(f"{runs} runs, {tags} tags, {scalars} scalars read by TensorBoard equal those of the store as 32-bit floats")
    print("\n".join(lines))
    if arguments.report:
        arguments.report.write_text("\n".join(lines) + "\n")
    if max(differences) > LIMIT:
        sys.exit(f"a logit differs by more than {LIMIT}")


if __name__ == "__main__":
    main()
