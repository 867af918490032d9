"""Coverage-guided fuzzing of one parser of texts by atheris, which is no dependency: `pip install atheris`.

    python -m benchmarks.fuzz_parts.guided filter_text -max_total_time=60

Options after the target's name are those of libFuzzer. It ends at the first input that raises another error than the target may.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stamp_index"]):
    from tests.fuzz_targets import TARGETS, TextTarget


def main() -> None:
    """Fuzz the target that the first argument names."""
    target = TARGETS[sys.argv.pop(1)]
    if not isinstance(target, TextTarget):
        sys.exit(f"{target.name} is no parser of texts; benchmarks/fuzz.py spoils its files.")
    warnings.simplefilter("ignore")
    logging.disable()
    with tempfile.TemporaryDirectory() as scratch:
        folder, corpus = Path(scratch) / "files", Path(scratch) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        for number, text in enumerate(target.seeds):
            (corpus / str(number)).write_text(text, encoding="utf-8")

        def one(data: bytes) -> None:
            try:
                target.use(data.decode("utf-8", "replace"), folder)
            except target.refusals:
                return

        atheris.Setup([*sys.argv, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
