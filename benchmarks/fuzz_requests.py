"""Ten thousand malformed HTTP requests to ``stamp-index serve``: each is answered or refused with a typed error.

    OMP_NUM_THREADS=1 python benchmarks/fuzz_requests.py [--n 10000] [--first 0]

Valid requests to every address are spoiled: a value in JSON replaced, the text of JSON, an address, or any byte of the
request. A status of 500, no answer or no end within ten seconds, an error without a type, a server that ends, another
answer to a valid request than before, or memory that stays taken is a violation; each is printed with the number that
repeats it (`--first NUMBER --n 1`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np
from load_parts import world
from load_parts.server import Server

import stamp_index as si
from tests.fuzz_requests import Known, answer_to, malformed, wrong

KNOWN = Known(world.slide_id(3), f"{world.slide_id(3)}:B7", ("GENE1", "GENE7"), world.DIM)
MOST_GROWTH_MIB = 200.0
WARM = 500  # requests before memory is looked at


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-requests-") as name:
        folder = Path(name)
        world.make_store(folder, 16)
        with Server(folder / "store", folder / "server.log") as server:
            violations = fuzz(server, asked.first, asked.n)
    for line in violations[:50]:
        print(f"- {line}")
    print(f"{asked.n} requests, {len(violations)} violations")
    sys.exit(1 if violations else 0)


def fuzz(server: Server, first: int, n: int) -> list[str]:
    """Send requests `first` to `first + n`; returns what was wrong."""
    said: Counter[int] = Counter()
    violations, slowest, held = [], (0.0, 0), 0.0
    before = valid_rows(server.url)
    for number in range(first, first + n):
        if number == first + min(WARM, n // 2):
            held = server.resident_mib()
        request, is_whole = malformed(number, KNOWN)
        try:
            answer = answer_to(server.url, request, is_whole=is_whole)
        except OSError as error:
            violations.append(f"request {number}: {type(error).__name__}: {error}")
            if not server.is_alive:
                return violations
            continue
        what = wrong(answer, is_whole=is_whole)
        if what:
            violations.append(f"request {number}: {what}")
        said[answer.status] += 1
        slowest = max(slowest, (answer.seconds, number))
    grew = server.resident_mib() - held
    if grew > MOST_GROWTH_MIB:
        violations.append(f"memory grew by {grew:.0f} MiB")
    if not np.array_equal(before, valid_rows(server.url)):
        violations.append("a valid request is answered otherwise than before")
    counts = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(said.items()))
    print(
        f"Statuses: {counts}. Slowest {slowest[0]:.2f} s (request {slowest[1]}). Memory grew by {grew:+.1f} MiB."
    )
    return violations


def valid_rows(url: str) -> np.ndarray:
    """Rows that a valid request finds."""
    with si.connect(url) as there:
        return there.search_vector(np.eye(world.DIM)[0], k=10).rows


if __name__ == "__main__":
    main()
