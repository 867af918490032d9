"""The phantom's gene panel and what each cell type expresses of it; symbols are real human genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stamp_index.phantom.cells import CELL_TYPES
from stamp_index.phantom.noise import rng_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLANTED_QUERIES: dict[str, str] = {
    "tumour": "ERBB2 high, GRB7 high, CEACAM6 high",
    "stroma": "COL1A1 high, COL1A2 high, LUM high",
    "lymphoid": "CD8A high, EPCAM low",
    "fat": "ADIPOQ high, PLIN1 high, LEP high",
    "necrosis": "S100A8 high, S100A9 high, CXCL8 high",
    "normal": "KRT5 high, KRT14 high, TP63 high",
}
"""One signature per domain: what is asked high there is expressed by that domain's own cells."""

# Markers by cell type, strongest first; the order sets the level (see `_level`).
MARKERS: dict[str, str] = {
    "tumour": "ERBB2 KRT8 KRT18 EPCAM KRT19 CEACAM6 GRB7 CDH1 CLDN4 TACSTD2 STARD3 PGAP3 MIEN1 "
    "CEACAM5 ESR1 GATA3 XBP1 FOXA1 SPDEF CLDN3 CLDN7 ELF3 TFAP2A PRLR AZGP1 S100P CRABP2 "
    "ESRP1 KRT7 LCN2 MAL2 SLPI",
    "cd8_t": "CD8A CD8B CD3E CD3D CD2 GZMK TRAC CCL5 NKG7 GZMA CD3G CST7 TRBC2 IL7R KLRG1 PRF1 "
    "GZMB GZMH EOMES LAG3 TIGIT CD27 CRTAM CD69",
    "cd4_t": "CD4 CD3E CD3D TRAC IL7R CCR7 TCF7 LTB CD2 TRBC2 CD3G SELL MAL LEF1 ICOS CD40LG "
    "FOXP3 CTLA4 IL2RA CD28 CD5 BCL11B",
    "b_cell": "MS4A1 CD79A CD19 CD79B BANK1 CD37 CD22 TCL1A FCRLA VPREB3 CR2 BLK FCER2 PAX5 LTB "
    "IGHD IGHM CXCR5 CD83 SPIB TNFRSF13C",
    "plasma": "IGHG1 IGKC JCHAIN MZB1 IGHG3 IGHA1 IGLC2 DERL3 TNFRSF17 SDC1 XBP1 FKBP11 SSR4 "
    "PIM2 PRDM1 POU2AF1 CD38 TXNDC5",
    "fibroblast": "DCN COL3A1 SPARC COL6A3 COL5A1 MMP2 FBLN1 PDGFRA PDGFRB COL6A1 COL1A1 COL1A2 LUM "
    "COL6A2 FN1 VCAN SFRP2 MFAP5 ACTA2 TAGLN BGN FSTL1 C1S C1R SERPINF1 CTSK",
    "endothelial": "PECAM1 VWF CLDN5 CDH5 PLVAP EGFL7 ESAM RAMP2 ENG KDR TIE1 ERG EMCN ECSCR FLT1 "
    "AQP1 ACKR1 SELE MMRN2 ROBO4 CD34",
    "adipocyte": "ADIPOQ PLIN1 LEP FABP4 CIDEC PLIN4 LPL GPD1 CIDEA ADIPOR2 CD36 LIPE PNPLA2 PPARG "
    "DGAT2 SLC7A10 TRARG1 RBP4 AQP7 THRSP G0S2",
    "macrophage": "CD68 CD163 C1QA C1QB C1QC MSR1 MRC1 APOE TYROBP AIF1 FCER1G CTSD LYZ CSF1R MARCO "
    "GPNMB SPP1 CD14 FCGR3A VSIG4 MS4A7",
    "neutrophil": "S100A8 S100A9 CXCL8 FCGR3B CSF3R G0S2 S100A12 CXCR2 CXCR1 IL1B FPR1 NAMPT SOD2 "
    "MMP9 TREM1 BCL2A1 PTGS2 IL1RN CXCL2",
    "luminal": "SCGB2A2 PIP SCGB1D2 KRT8 KRT18 EPCAM KRT19 LTF AZGP1 MUCL1 SLPI ELF5 KIT ALDH1A3 "
    "KRT15 PROM1 CDH1 CLDN4 MGP ANKRD30A",
    "myoepithelial": "KRT5 KRT14 TP63 KRT17 ACTA2 OXTR MYLK KRT6B SFN DST LAMB3 LAMC2 TAGLN CNN1 "
    "MYH11 CDH3 COL17A1 ITGB4 DSG3 TRIM29",
    "debris": "HMOX1 MT2A GADD45B DDIT3 ATF3 FTL FTH1 SAT1 PPP1R15A TRIB3",
    "red_cell": "HBB HBA1 HBA2 ALAS2 HBD AHSP",
}

# Continuous programmes: in these cells, with this state, these genes rise (strongest first).
PROGRAMME_GENES: dict[str, tuple[tuple[str, ...], str]] = {
    "proliferation": (
        ("tumour",),
        "MKI67 TOP2A CCNB1 BIRC5 UBE2C PCNA TYMS RRM2 CDK1 STMN1 TUBA1B HMGB2 CENPF NUSAP1 AURKA "
        "TPX2 MCM2 MCM5 KIF20A CDC20",
    ),
    "hypoxia": (
        ("tumour", "debris", "macrophage"),
        "CA9 VEGFA NDRG1 SLC2A1 LDHA ADM BNIP3 PGK1 ENO1 P4HA1 ANGPTL4 EGLN3 ALDOA PFKFB3 ANKRD37",
    ),
    "gland": (("tumour",), "MUC1 TFF1 TFF3 AGR2 AGR3 PIGR CYP4X1 MUC5B KRT20 GALNT6 CLDN18 VIL1"),
    "collagen": (
        ("fibroblast",),
        "COL1A1 COL1A2 LUM POSTN FAP COL11A1 COL10A1 THBS2 INHBA MMP11 CTHRC1 LRRC15 SULF1 COL8A1 ASPN COMP",
    ),
    "loose": (
        ("fibroblast",),
        "CFD PI16 CD248 C7 DPT ADH1B APOD GSN IGFBP6 CLU CXCL12 FBLN2 OGN",
    ),
    "follicle": (("b_cell",), "CXCL13 BCL6 AICDA RGS13 MYBL1 S1PR2 LMO2 SUGCT ELL3 MEF2B"),
    "immune": (
        ("cd8_t", "cd4_t", "macrophage", "neutrophil"),
        "CXCL9 CXCL10 STAT1 IFNG GBP5 IDO1 HLA-DRA CD74 IRF1 GBP1 ISG15",
    ),
}  # fmt: skip

HOUSEKEEPING = (
    "ACTB GAPDH B2M TMSB4X TMSB10 EEF1A1 EEF2 TPT1 MALAT1 NEAT1 MT-CO1 MT-CO2 MT-CO3 MT-ND1 MT-ND2 "
    "MT-ND3 MT-ND4 MT-ND5 MT-ATP6 MT-CYB RPL3 RPL4 RPL5 RPL7 RPL8 RPL10 RPL11 RPL13 RPL13A RPL15 "
    "RPL18 RPL19 RPL23 RPL27 RPL30 RPL32 RPL34 RPL37 RPL41 RPLP0 RPLP1 RPLP2 RPS2 RPS3 RPS4X RPS5 "
    "RPS6 RPS8 RPS11 RPS12 RPS14 RPS15 RPS18 RPS19 RPS23 RPS24 RPS27 RPS27A FAU UBA52 UBC UBB HSPA8 "
    "HSP90AB1 HSP90AA1 PPIA CFL1 PFN1 MYL6 MYL12B SERF2 NACA BTF3 EIF1 EIF4A1 H3F3B HNRNPA1 YWHAZ "
    "ARPC2 COX4I1 COX6A1 ATP5F1E NDUFA4 UQCRQ TUBB CALM1 CALM2 OAZ1 SUMO2 HINT1 PABPC1 PSMB4 PSMA7"
)

LOW = (
    "AAMP ABCF1 ACOT8 ADAR AGFG1 AKAP8 ALG5 ANAPC5 AP2A1 ARF3 ARL2 ASH2L ATG12 ATRX BAP1 BCAP31 "
    "BLOC1S1 BRD2 BRD4 BUD31 CAPZB CBX3 CCDC12 CCNC CCT3 CDC37 CDK9 CHMP2A CIAO1 CLPP CNOT1 COPB1 "
    "COPE CPSF2 CSTF1 CTBP1 CUL1 CUL3 DAXX DCTN2 DDB1 DDX5 DDX41 DHX9 DNAJC7 DNM2 DPM1 DRG1 DYNLL1 "
    "EDC4 EIF2B2 EIF3D EIF4H ELP2 EMC4 ERAL1 ERH EXOC7 EXOSC3 FBXO7 FBXW11 FIS1 FKBP8 FNTA GABARAP "
    "GAK GBF1 GDI2 GIT1 GOLGA2 GPS1 GSK3A GTF2B GTF3C2 HAX1 HDAC1 HDAC3 HGS HNRNPK HSBP1 IK ILF2 "
    "IMP3 INTS3 IRF3 JTB KARS KAT5 KDM1A KHSRP KIF5B KPNB1 LAMTOR1 LSM4 MAEA MAP2K2 MAPK1 MARK2 MAX "
    "MED4 MED8 METTL3 MFN2 MLF2 MRPL9 MRPS7 MTCH1 MTMR4 NARS NCBP2 NCKAP1 NDUFB8 NELFE NFYC NIP7 "
    "NONO NOP2 NRBP1 NSFL1C NUP62 NUTF2 OTUB1 PAK2 PARK7 PCBP1 PCM1 PDCD6 PFDN1 PHB2 PHF5A PIAS1 "
    "PMPCA POLR2A POLR2E POP7 PPP1CA PPP2CA PRMT1 PRPF8 PSMC4 PSMD6 PTBP1 PUM1 RAB1B RAB7A RAD23A "
    "RANBP3 RBM8A RBM39 RBX1 REEP5 RER1 RNF4 RPA2 RPN1 RUVBL2 SAE1 SCAMP3 SDHA SEC61B SENP3 SF3A1 "
    "SF3B2 SIRT6 SKP1 SMARCE1 SMU1 SNRPA SNX3 SRP14 SRSF9 SSRP1 STK24 STX5 SUPT5H SYNCRIP TAF10 "
    "TARDBP TBP TCF25 TERF2 THOC5 TIMM44 TMED2 TMEM11 TOMM7 TRAPPC1 TSG101 TTC1 U2AF2 UBE2I UBQLN1 "
    "UFD1 USP5 VAMP3 VCP VPS4A WDR5 WTAP XPO1 YIF1A YY1 ZFR ZMAT2 ZNF24 ZNF207 ZNF384"
)

# RNA of a cell relative to a tumour cell; an adipocyte counts for its whole body in the section.
RNA_CONTENT: dict[str, float] = {
    "tumour": 1.0, "cd8_t": 0.6, "cd4_t": 0.45, "b_cell": 0.45, "plasma": 0.8, "fibroblast": 0.9,
    "endothelial": 0.5, "adipocyte": 6.0, "macrophage": 0.7, "neutrophil": 0.6, "luminal": 0.8,
    "myoepithelial": 0.8, "debris": 0.18, "red_cell": 0.05,
}  # fmt: skip

_MARKER_SHARE = 0.42  # of a cell's RNA
_PROGRAMME_SHARE = 0.16  # added at full state
_LOW_SHARE = 0.13


def genes() -> tuple[str, ...]:
    """Symbols of the panel, sorted, unique."""
    words = [*MARKERS.values(), *(g for _, g in PROGRAMME_GENES.values()), HOUSEKEEPING, LOW]
    return tuple(sorted({w for text in words for w in text.split()}))


def _level(n: int) -> NDArray[np.float64]:
    """Weights of a ranked list: the first marker counts about ten times the last; sums to 1."""
    weights = 1.0 / (np.arange(n) + 2.5)
    return np.asarray(weights / weights.sum())


def _spread(text: str, position: dict[str, int], n_genes: int) -> NDArray[np.float64]:
    out = np.zeros(n_genes)
    names = text.split()
    out[[position[g] for g in names]] = _level(len(names))
    return out


def profiles() -> NDArray[np.float64]:
    """Mean expression of each cell type.

    Returns
    -------
    ndarray of shape (t, g), float64
        Rows in the order of `CELL_TYPES`, columns in the order of `genes()`; each row sums to
        the type's RNA content.
    """
    names = genes()
    position = {g: i for i, g in enumerate(names)}
    rng = rng_for(20260)  # the biology is the same in every phantom
    house, low = np.zeros(len(names)), np.zeros(len(names))
    common, rare = HOUSEKEEPING.split(), LOW.split()
    house[[position[g] for g in common]] = rng.lognormal(0, 0.7, len(common))
    low[[position[g] for g in rare]] = rng.lognormal(0, 0.9, len(rare))
    rows = []
    for kind in CELL_TYPES:
        base = house * rng.lognormal(0, 0.18, len(names))
        base = base / base.sum() * (1 - _MARKER_SHARE - _LOW_SHARE)
        row = base + low / low.sum() * _LOW_SHARE
        row += _MARKER_SHARE * _spread(MARKERS[kind], position, len(names))
        rows.append(row * RNA_CONTENT[kind])
    return np.array(rows)


def programme_profiles() -> dict[tuple[str, str], NDArray[np.float64]]:
    """Expression that a programme adds to a cell type at full state, by (programme, type)."""
    names = genes()
    position = {g: i for i, g in enumerate(names)}
    return {
        (programme, kind): _PROGRAMME_SHARE
        * RNA_CONTENT[kind]
        * _spread(text, position, len(names))
        for programme, (kinds, text) in PROGRAMME_GENES.items()
        for kind in kinds
    }
