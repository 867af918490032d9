"""Reading patches of a whole slide, and embedding it, beside bare readers and the bare encoder.

    OMP_NUM_THREADS=1 python benchmarks/slide_reading.py FOLDER [--side 20480] [--patches 4000] [--encoder CHECKPOINT]

Draws a pyramidal JPEG slide in FOLDER once (256 px tiles, 0.25 um/px, levels 1, 2, 4, 8) and prints Markdown for RESULTS.md:

- patches a second through `read_ahead`, beside OpenSlide, tiffslide and tifffile's zarr store reading the same areas from
  the same level: 112 um into 224 px, which a level has at that size, and into 160 px, which are resampled
  (Pillow, bilinear). The bare readers get the patches in our order, resize with Pillow where needed and keep
  nothing. All take turns, one round after the other; figures are medians of the ratios within a round.
- the same with more workers: threads and processes.
- with --encoder: spots a second of `embed_slide` beside the encoder alone on tensors that are ready.

Wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stamp_index.phantom import make_phantom
from stamp_index.slides import PatchSpec, Slide, open_image, read_ahead as reading
from stamp_index.slides.openslide_image import OpenSlideImage
from stamp_index.slides.patches import squares_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stamp_index.slides import SlideImage

MPP = 0.25
WIDTH_UM = 112.0
LEVELS = (1, 2, 4, 8)
ROUNDS = 5
BATCH = 64


def draw_slide(folder: Path, side: int) -> Path:
    """Make a slide of repeated phantom tissue, as a tiled pyramid."""
    import tifffile

    path = folder / f"slide-{side}.tiff"
    if path.exists():
        return path
    made = make_phantom(
        folder / "phantom", n_patients=1, slides_per_patient=1, spots_per_slide=300, seed=0
    )
    picture = next(p for p in sorted(Path(made[0]).rglob("*.png")) if "hires" in p.name)
    tissue = np.asarray(Image.open(picture).convert("RGB"))
    tissue = tissue[: tissue.shape[0] // 16 * 16, : tissue.shape[1] // 16 * 16]
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 85},
        "resolutionunit": "CENTIMETER",
    }
    with tifffile.TiffWriter(path, bigtiff=True) as out:
        for factor in LEVELS:
            small = np.asarray(Image.fromarray(tissue).reduce(factor)) if factor > 1 else tissue
            n = side // factor
            shape = (n, n, 3)
            out.write(
                tiles(small, n),
                shape=shape,
                dtype=np.uint8,
                subfiletype=0 if factor == 1 else 1,
                resolution=(1e4 / (MPP * factor),) * 2,
                **options,
            )
    return path


def tiles(picture: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """Repeat the picture over a square, tile by tile."""
    height, width, _ = picture.shape
    for top in range(0, side, 256):
        for left in range(0, side, 256):
            rows = np.arange(top, top + 256) % height
            columns = np.arange(left, left + 256) % width
            yield np.ascontiguousarray(picture[np.ix_(rows, columns)])


def slide_of(image: SlideImage, n: int, side: int) -> Slide:
    """Lay a grid of places, as on plain H&E."""
    per_line = int(np.sqrt(n))
    step = (side - 4000) / per_line
    at = np.arange(per_line**2)
    spots = pd.DataFrame(
        {"x_px": 2000 + at % per_line * step, "y_px": 2000 + at // per_line * step},
        index=pd.Index([f"B{i}" for i in at], name="barcode"),
    )
    return Slide("S", spots, csr_matrix((len(at), 0), dtype=np.float32), (), image, MPP, WIDTH_UM)


def ours(slide: Slide, specs: list[PatchSpec], workers: int) -> None:
    slide.image.close()  # every reader begins with no tile in its cache
    for _ in reading.read_ahead(slide, specs, batch_size=BATCH, workers=workers):
        pass


def bare_openslide(path: Path, slide: Slide, spec: PatchSpec) -> None:
    import openslide

    source = openslide.OpenSlide(path)
    read_bare(source, slide, spec)
    source.close()


def bare_tiffslide(path: Path, slide: Slide, spec: PatchSpec) -> None:
    import tiffslide

    source = tiffslide.TiffSlide(path)
    read_bare(source, slide, spec)
    source.close()


def read_bare(source: Any, slide: Slide, spec: PatchSpec) -> None:  # noqa: ANN401 - either library's
    _, (corners,), (width,) = squares_of(slide, [spec])
    level = source.get_best_level_for_downsample(spec.mpp / MPP * 1.001)
    factor = round(source.level_downsamples[level])
    size = round(width / factor)
    for x, y in corners[reading.reading_order(slide.xy_px, width)].tolist():
        # On the level's own pixels, as OpenSlide is slow between them.
        at = (round(x / factor) * factor, round(y / factor) * factor)
        region = source.read_region(at, level, (size, size)).convert("RGB")
        np.asarray(
            region if size == spec.size_px else region.resize((spec.size_px,) * 2, Image.BILINEAR)
        )


def bare_tifffile(path: Path, slide: Slide, spec: PatchSpec) -> None:
    import tifffile
    import zarr

    _, (corners,), (width,) = squares_of(slide, [spec])
    with tifffile.TiffFile(path) as source:
        level = max(i for i, d in enumerate(LEVELS) if d <= spec.mpp / MPP * 1.001)
        pixels = zarr.open(source.series[0].aszarr(level=level), mode="r")
        size = round(width / LEVELS[level])
        for x, y in (corners[reading.reading_order(slide.xy_px, width)] / LEVELS[level]).tolist():
            left, top = round(x), round(y)
            part = np.asarray(pixels[top : top + size, left : left + size])
            if size != spec.size_px:
                Image.fromarray(part).resize((spec.size_px,) * 2, Image.BILINEAR)


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rounds(calls: dict[str, Callable[[], object]], n: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each call, round by round, in turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # warm: files cached, processes started
    for _ in range(n):
        for name, call in calls.items():
            found[name].append(timed(call))
    return found


def ratio(found: dict[str, list[float]], name: str, base: str) -> float:
    """Rate of `name` over that of `base`: median over rounds."""
    return statistics.median(b / a for a, b in zip(found[name], found[base], strict=True))


def compare_reading(path: Path, side: int, n: int) -> None:
    tiff, through = open_image(path), OpenSlideImage(path)
    print(
        f"\n{side} x {side} px, {MPP} um/px, JPEG tiles of 256 px; {n} patches of {WIDTH_UM:g} um\n"
    )
    print(
        "| patches | ours over OpenSlide | over tiffslide | over tifffile + zarr | through OpenSlide, over it |"
    )
    print("|---|---|---|---|---|")
    for words, px in (("224 px, no resampling", 224), ("160 px, resampled", 160)):
        spec = PatchSpec(WIDTH_UM, px)
        slide, other = slide_of(tiff, n, side), slide_of(through, n, side)
        found = rounds(
            {
                "ours": partial(ours, slide, [spec], 1),
                "openslide": partial(bare_openslide, path, slide, spec),
                "tiffslide": partial(bare_tiffslide, path, slide, spec),
                "tifffile": partial(bare_tifffile, path, slide, spec),
                "ours through openslide": partial(ours, other, [spec], 1),
            }
        )
        cells = [
            f"{ratio(found, 'ours', base):.2f}" for base in ("openslide", "tiffslide", "tifffile")
        ]
        cells.append(f"{ratio(found, 'ours through openslide', 'openslide'):.2f}")
        print(f"| {words} | {' | '.join(cells)} |")


def compare_workers(path: Path, side: int, n: int) -> None:
    spec = PatchSpec(WIDTH_UM, 160)
    cores = os.cpu_count() or 1
    counts = [w for w in (2, 4, 8, 16) if w <= cores]
    print(
        f"\nWorkers, over one worker ({cores} cores)\n\n| image read by | "
        + " | ".join(f"{w} threads | {w} processes" for w in counts)
        + " |"
    )
    print("|---|" + "---|---|" * len(counts))
    for words, image in (
        ("tifffile (TiffImage)", open_image(path)),
        ("OpenSlide", OpenSlideImage(path)),
    ):
        slide = slide_of(image, n, side)
        calls = {"one": partial(ours, slide, [spec], 1)}
        for w in counts:
            read = partial(ours, slide, [spec], w)
            calls[f"{w} threads"] = partial(with_processes_from, 1 << 60, read)
            calls[f"{w} processes"] = partial(with_processes_from, 0, read)
        found = rounds(calls)
        cells = [f"{ratio(found, name, 'one'):.2f}" for name in calls if name != "one"]
        print(f"| {words} | {' | '.join(cells)} |")


def with_processes_from(n: int, call: Callable[[], object]) -> None:
    """Read with processes from so many patches on."""
    kept = reading._PROCESSES_FROM
    reading._PROCESSES_FROM = n
    try:
        call()
    finally:
        reading._PROCESSES_FROM = kept


def compare_embedding(path: Path, side: int, n: int, checkpoint: Path) -> None:
    from stamp_index.embed import embed_slide
    from stamp_index.encoders import load_encoder

    encoder = load_encoder(checkpoint)
    slide = slide_of(open_image(path), n, side)
    specs = [encoder.patch, encoder.region][: 1 + bool(getattr(encoder, "sees_regions", True))]
    ready = [batch.patches for batch in reading.read_ahead(slide, specs, batch_size=BATCH)]

    def alone() -> None:
        for patches in ready:
            encoder.encode_images(*patches)

    found = rounds({"slide": lambda: embed_slide(encoder, slide), "alone": alone}, 5)
    rate = slide.n_spots / statistics.median(found["slide"])
    print(
        f"\nEmbedding {slide.n_spots} places with {encoder.name} ({len(specs)} images each): "
        f"{ratio(found, 'slide', 'alone'):.2f} of the bare encoder's rate; {rate:.1f} places a second on "
        f"{os.cpu_count()} cores, so a million take {1e6 / rate / 3600:.1f} h."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=20_480)
    parser.add_argument("--patches", type=int, default=4_000)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--embed", type=int, default=400, help="places to embed")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = draw_slide(arguments.folder, arguments.side)
    compare_reading(path, arguments.side, arguments.patches)
    compare_workers(path, arguments.side, arguments.patches)
    if arguments.encoder is not None:
        compare_embedding(path, arguments.side, arguments.embed, arguments.encoder)


if __name__ == "__main__":
    main()
