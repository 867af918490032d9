"""Every column name, and every number with its unit and source. Nothing here changes at run time."""

from __future__ import annotations

from typing import Final


class Keys:
    """Names of columns, files and AnnData slots."""

    SPOT_ID: Final = "spot_id"  # "<slide_id>:<barcode>"
    SLIDE_ID: Final = "slide_id"
    PATIENT_ID: Final = "patient_id"
    ORGAN: Final = "organ"
    BARCODE: Final = "barcode"
    X_PX: Final = "x_px"  # patch centre, level-0 pixels
    Y_PX: Final = "y_px"
    X_UM: Final = "x_um"  # the same centre in microns
    Y_UM: Final = "y_um"
    N_COUNTS: Final = "n_counts"
    N_GENES: Final = "n_genes"
    THUMBNAIL: Final = "thumbnail"
    RANK: Final = "rank"  # 1 is best
    SCORE: Final = "score"  # cosine
    Z: Final = "z"  # score in standard deviations above what its query scores elsewhere
    PERCENTILE: Final = "percentile"  # share of random queries whose best hit has a lower score
    MEASURED: Final = "measured"  # a signature in the expression measured at a hit


class Nums:
    """Constants with their unit in the name."""

    VISIUM_SPOT_UM: Final = 55.0  # capture area's diameter (10x Genomics, Visium v1)
    VISIUM_PITCH_UM: Final = 100.0  # centre to centre
    LEGACY_ST_SPOT_UM: Final = 100.0  # Stahl et al. 2016
    LEGACY_ST_PITCH_UM: Final = 200.0
    PATCH_UM: Final = 112.0  # STAMP, recipes: 224 px at 0.5 um/px
    REGION_UM: Final = 336.0  # three patches wide
    COUNTS_PER_SPOT: Final = 10_000.0  # normalisation target, scanpy's and STAMP's
    BIN_UM: Final = (
        48.0  # near a Visium spot, and a whole number of Visium HD's 2, 8 and 16 um squares
    )
    MPP_TOLERANCE: Final = 0.03  # relative; two pixel sizes that differ by more contradict
    MAX_UPLOAD_PX: Final = 16_777_216  # 4096 x 4096, refused before decoding above this
