"""What pathologists call proteins, and the genes behind them.

Names with one meaning only: CD8 (CD8A or CD8B) or CD3 (three chains) are left to the close names. Written
for this project from common usage; a lab's own table can take its place (`GeneResolver`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMON_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ASMA": "ACTA2",
        "BCL-2": "BCL2",
        "C-MYC": "MYC",
        "CALDESMON": "CALD1",
        "CD10": "MME",
        "CD105": "ENG",
        "CD11B": "ITGAM",
        "CD11C": "ITGAX",
        "CD117": "KIT",
        "CD127": "IL7R",
        "CD138": "SDC1",
        "CD20": "MS4A1",
        "CD206": "MRC1",
        "CD21": "CR2",
        "CD31": "PECAM1",
        "CD45": "PTPRC",
        "CD56": "NCAM1",
        "CD57": "B3GAT1",
        "CD61": "ITGB3",
        "CD66B": "CEACAM8",
        "CD73": "NT5E",
        "CD90": "THY1",
        "CK14": "KRT14",
        "CK17": "KRT17",
        "CK18": "KRT18",
        "CK19": "KRT19",
        "CK20": "KRT20",
        "CK5": "KRT5",
        "CK7": "KRT7",
        "CK8": "KRT8",
        "COX-2": "PTGS2",
        "DESMIN": "DES",
        "E-CADHERIN": "CDH1",
        "ECAD": "CDH1",
        "FIBRONECTIN": "FN1",
        "HER2": "ERBB2",
        "HER3": "ERBB3",
        "KI-67": "MKI67",
        "KI67": "MKI67",
        "LAG-3": "LAG3",
        "N-CADHERIN": "CDH2",
        "NSE": "ENO2",
        "P53": "TP53",
        "PD-1": "PDCD1",
        "PD-L1": "CD274",
        "PDL1": "CD274",
        "SYNAPTOPHYSIN": "SYP",
        "TIM-3": "HAVCR2",
        "TIM3": "HAVCR2",
        "VIMENTIN": "VIM",
    }
)

# Names of proteins made of several genes' products, in lower case. The gene reference knows some of them as the old symbol of
# one of these genes (CD8 of CD8A); who asks for the protein has to say which gene.
OF_SEVERAL_GENES: Final = frozenset({"cd3", "cd8"})
