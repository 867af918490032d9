"""What work on Ray costs and gives beside the same work in one process, at equal cores.

    python benchmarks/scale_out.py embed [--slides 12] [--spots 800] [--rounds 3]
    python benchmarks/scale_out.py index [--n 200000] [--dim 128] [--recipe ivf_pq] [--rounds 3]
    python benchmarks/scale_out.py write [--n 1000000] [--dim 512] [--rounds 2]
    python benchmarks/scale_out.py s3 [--writers 4] [--slides 120] [--kills 10]
    python benchmarks/scale_out.py shards [--n 200000] [--dim 128]

Runs of the two take turns, so that whatever else the machine does falls on both. Prints Markdown for RESULTS.md:

- ``embed``: slides embedded here and on two nodes of Ray, one of which is then killed in the middle: whether every
  slide is there once, and equal to the bit.
- ``index``: an index built here and with its lists filled by workers; wall time of the whole build and of filling
  alone, and whether the files are the same byte for byte.
- ``write``: rows written to a store by one writer, and by several at once.
- ``s3``: several processes that write to one store in object storage, of which some are killed.
- ``shards``: an index and its division into 1, 2 and 4 shards, all in one process.

Each part is a file of `scale_out_parts/` and stands in `PARTS`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from scale_out_parts import embed, index, s3, shards, write

PARTS = {"embed": embed, "index": index, "s3": s3, "shards": shards, "write": write}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        part.add_arguments(parts.add_parser(name, help=part.__doc__.splitlines()[0]))
    args = parser.parse_args()
    print(PARTS[args.part].run(args))


if __name__ == "__main__":
    main()
