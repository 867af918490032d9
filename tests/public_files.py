"""Small copies of public data sets in the layouts in which they are published, and an encoder to measure there."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import csr_matrix

from stamp_index.encoders import save_encoder
from stamp_index.encoders.gene_input import GeneInput
from stamp_index.encoders.ridge_encoder import RidgeEncoder
from stamp_index.encoders.trunk import load_trunk
from stamp_index.genes import GenePanel
from stamp_index.slides import PatchSpec
from tests import her2st_files
from tests.space_ranger_run import FULL, Run

HEST_GENES = tuple(f"G{i:02d}" for i in range(60))
HEST_TASKS = {"IDC": ("A1", "A2", "A3"), "SKCM": ("B1", "B2", "B3")}
HEST_SPOTS = 24
HEST_LIST = ("G03", "G00", "G07", "G20")
LAYERS = ("Layer5", "Layer6", "WM")
REGIONS = ("invasive cancer", "connective tissue")


def write_encoder(folder, genes, *, width_um=112.0, size_px=96, seed=0):
    """An encoder of fixed random maps from the trunk's mean token and from the profile; its checkpoint's folder."""
    rng = np.random.default_rng(seed)
    panel = GenePanel(tuple(genes), (5.0,) * len(genes))
    gene_input = GeneInput(
        panel,
        np.full(len(genes), 1.0, np.float32),
        np.ones((1, len(genes)), np.float32),
        len(genes),
    )
    channels, dim = load_trunk().channels, 8
    arrays = {
        "axes": rng.normal(size=(len(genes), dim)),
        "patch_weights": rng.normal(size=(channels, dim)),
        "feature_mean": np.zeros(channels),
        "feature_std": np.ones(channels),
    }
    encoder = RidgeEncoder(
        gene_input,
        {name: value.astype(np.float32) for name, value in arrays.items()},
        (PatchSpec(width_um, size_px), PatchSpec(3 * width_um, size_px)),
    )
    save_encoder(encoder, folder, training={"seed": seed})
    return Path(folder)


# ---- HEST-Benchmark --------------------------------------------------------------------------------


def write_hest(root, tasks=HEST_TASKS, seed=0):
    """Tasks of three samples, one tested in each fold; a gene's level follows the patch's colour."""
    rng = np.random.default_rng(seed)
    for task, samples in tasks.items():
        folder = root / task
        for name in ("splits", "patches", "adata"):
            (folder / name).mkdir(parents=True)
        (folder / "var_50genes.json").write_text(json.dumps({"genes": list(HEST_LIST)}))
        for sample in samples:
            write_hest_sample(folder, sample, rng)
        for number, tested in enumerate(samples):
            write_split(folder, f"test_{number}", [tested])
            write_split(folder, f"train_{number}", [one for one in samples if one != tested])
    return root


def write_hest_sample(folder, sample, rng):
    """Patches in another order than the counts, and without the last spot."""
    n = HEST_SPOTS
    colour = rng.uniform(40, 220, (n + 1, 3))
    known = np.random.default_rng(7)  # the same genes follow the same colours in every sample
    rates = np.exp((colour - 130) @ known.normal(0, 0.01, (3, len(HEST_GENES))))
    counts = rng.poisson(rates * known.uniform(2, 12, len(HEST_GENES)))
    barcodes = [f"{sample}-{i:03d}x" for i in range(n + 1)]
    made = anndata.AnnData(
        csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(index=barcodes),
        var=pd.DataFrame(index=list(HEST_GENES)),
    )
    made.write_h5ad(folder / "adata" / f"{sample}.h5ad")
    order = rng.permutation(n)
    noise = rng.normal(0, 12, (n, 28, 28, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = (colour[order][:, None, None] + noise).clip(0, 255).astype(np.uint8)
    with h5py.File(folder / "patches" / f"{sample}.h5", "w") as file:
        file["img"] = images
        file["coords"] = np.zeros((n, 2), np.int64)
        file["barcode"] = np.array([[barcodes[i]] for i in order], dtype="S")


def write_split(folder, name, samples):
    rows = [
        {"sample_id": one, "patches_path": f"patches/{one}.h5", "expr_path": f"adata/{one}.h5ad"}
        for one in samples
    ]
    pd.DataFrame(rows).to_csv(folder / "splits" / f"{name}.csv", index=False)


# ---- DLPFC -----------------------------------------------------------------------------------------


def write_slice(root, name, donor, seed, *, truth=False):
    """A Space Ranger folder whose rows of spots are three layers, seen in colour and counts."""
    run = Run(root)
    rng = np.random.default_rng(seed)
    row = run.positions[2][1:].to_numpy()
    layer = row // 3
    rate = np.where(np.arange(5) == layer[:, None], 12.0, 5.0)
    run.counts = rng.poisson(rate) + 1
    run.write_h5()
    run.scale_factors |= {"tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.1}
    run.write_scale_factors()
    band = np.array([[200, 120, 180], [120, 90, 160], [230, 200, 220]], np.uint8)
    for kind in ("hires", "lowres"):
        factor = run.scale_factors[f"tissue_{kind}_scalef"]
        width, height = (round(side * factor) for side in FULL)
        y = np.arange(height) / factor
        at = np.clip((y - 500) / (200 * 0.75**0.5 * 3), 0, 2.99).astype(int)
        pixels = np.repeat(band[at][:, None], width, axis=1).astype(np.int64)
        noise = rng.integers(-60, 60, (height // 30, width // 30, 1)).repeat(30, 0).repeat(30, 1)
        pixels[: len(noise), : noise.shape[1]] += noise
        picture = pixels.clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(run.spatial / f"tissue_{kind}_image.png")
    layers = ["NA" if i == 0 else LAYERS[one] for i, one in enumerate(layer)]
    folder = run.path.rename(root / name)
    if truth:
        lines = [f"{barcode}\t{one}" for barcode, one in zip(run.barcodes, layers, strict=True)]
        (folder / f"{name}_truth.txt").write_text("\n".join(lines) + "\n")
    else:
        write_metadata(folder / "metadata.tsv", run.barcodes, layers, donor)
    return folder


def write_metadata(path, barcodes, layers, donor):
    """As R writes a table with row names: the header has one field less than the lines."""
    lines = ["barcode\tsample_name\tsubject\tlayer_guess\tlayer_guess_reordered"]
    lines += [
        f"{barcode}\t{barcode}\t{path.parent.name}\t{donor}\t{layer}\t{layer}"
        for barcode, layer in zip(barcodes, layers, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def write_dlpfc(root):
    """Three slices of two donors."""
    root.mkdir(parents=True, exist_ok=True)
    write_slice(root, "151507", "Br5292", 0)
    write_slice(root, "151508", "Br5292", 1)
    write_slice(root, "151669", "Br5595", 2, truth=True)
    return root


# ---- HER2ST ----------------------------------------------------------------------------------------


def write_her2st(root, sections=("A1", "A2", "B1", "C1"), labelled=("A1", "B1", "C1")):
    """A clone with some sections: the left half is cancer, in colour and counts."""
    data = root / "data"
    for number, name in enumerate(sections):
        path = her2st_files.write_section(data, name)
        rng = np.random.default_rng(number)
        index = pd.read_csv(path, sep="\t", index_col=0).index
        x = np.array([int(one.split("x")[0]) for one in index])
        rate = np.where(np.arange(3) == np.where(x < 6, 0, 2)[:, None], 25.0, 4.0)
        counts = pd.DataFrame(rng.poisson(rate) + 1, index, her2st_files.GENES)
        counts.to_csv(path, sep="\t")
        width, height = her2st_files.FULL
        pixels = np.full((height, width, 3), (205, 150, 190), np.int64)
        pixels[:, : round(4.6 / 32 * width)] = (120, 80, 150)
        pixels += rng.integers(-12, 12, (height, width, 1))
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(data / f"ST-imgs/{name[0]}/{name}/HE.jpg")
        if name in labelled:
            write_labels(data / "ST-pat" / "lbl" / f"{name}_labeled_coordinates.tsv", index)
    return root


def write_labels(path, index):
    """As the repository has them: places to a thousandth of the pitch, one row without a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["Row.names\tx\ty\tpixel_x\tpixel_y\tlabel"]
    for number, name in enumerate(index):
        x, y = (int(part) for part in name.split("x"))
        label = "undetermined" if number == 0 else REGIONS[int(x >= 6)]
        if number == 1 and path.name.startswith("A1"):
            label = "adipose tissue"  # of this patient alone
        lines.append(f"{x * 100}x{y * 100}\t{x + 0.02:.3f}\t{y - 0.03:.3f}\t{x * 100}\t{y * 100}\t{label}")  # fmt: skip
    lines.append("NA\tNA\tNA\tNA\tNA\tinvasive cancer")
    path.write_text("\n".join(lines) + "\n")
