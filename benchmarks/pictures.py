"""Measures how many training images a second are decoded and cropped to 224x224, from JPEGs of ImageNet's usual size.

    python -m benchmarks.pictures [--threads 1,2]

It draws 256 noisy pictures of 500x375 (quality 90, some 110 kB each) and prints a Markdown table: medians over --runs passes.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import numpy as np
from PIL import Image

from darts_pt_jax.data import folders


def draw(root: pathlib.Path, count: int = 256):
    """Writes the pictures, of two classes; the first two are test images too."""
    rng = np.random.default_rng(0)
    for n in range(count):
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(smooth, int) + rng.integers(-45, 46, (375, 500, 1))
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        for split in ("train", "val")[: 1 + (n < 2)]:
            folder = root / split / "ab"[n % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{n}.jpg", quality=90)


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: 1,2)")
    parser.add_argument("--runs", type=int, default=6)
    asked = parser.parse_args()
    print("| threads | images/s | lowest, highest | images per second of CPU time |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        draw(pathlib.Path(folder))
        for threads in map(int, asked.threads.split(",")):
            stream, rates, cpu_rates = folders.folder(folder, 224, threads), [], []
            for run in range(asked.runs + 1):
                wall, cpu = time.perf_counter(), time.process_time()
                count = sum(len(images) for images, _ in stream.training(run, 64))
                rates.append(count / (time.perf_counter() - wall))
                cpu_rates.append(count / (time.process_time() - cpu))
            rates, cpu_rates = rates[1:], cpu_rates[1:]  # the first pass fills the file cache
            print(f"| {threads} | {statistics.median(rates):.0f} | {min(rates):.0f}, {max(rates):.0f} | "
                  f"{statistics.median(cpu_rates):.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
