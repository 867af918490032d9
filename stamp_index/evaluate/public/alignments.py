"""Image-gene alignment on SpaVis: what is published of it does not make a benchmark, so none is run.

SpaVis-6M is the corpus of STAMP (arXiv 2602.13944; Hanminghao/STAMP): 5.75 million Visium spots, of which 697,000 have an
image. Its README documents shards ``tokens-*.h5`` for training, "containing some of" ``tokenized_gene`` (N, context),
``images`` (N, 3, 224, 224), ``batch_slide_id``, ``batch_dataset_id`` and ``pos_label``. It names neither which slides are held
out nor what a right answer is, and tokens are ranks in that model's own vocabulary: no counts can be had from them, so no
other encoder could be measured. Its pairs are said to come from HEST-1k, which this library reads as it is published.
"""

from __future__ import annotations

from typing import Final

NOT_A_BENCHMARK: Final = (
    "SpaVis has no published test set: its shards (tokens-*.h5) hold one model's gene tokens instead of counts, and neither held-out "
    "slides nor right answers are published. Its image-gene pairs are said to be of HEST-1k: add slides of that to a store (stamp-index "
    "add) and measure alignment there (stamp-index evaluate STORE --suite retrieval)."
)
