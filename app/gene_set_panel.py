"""Ready-made queries: marker sets with where they are from, and the user's own gene lists, GMT files and net tables."""

from __future__ import annotations

import io
from itertools import groupby
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.gene_names import names
from app.markup import plain
from app.query_bar import tell_problems
from app.query_controls import set_query
from app.query_terms import meaning, merged, text_of
from stamp_index.errors import QueryError
from stamp_index.genes import GeneSet, available_marker_sets, gene_sets_from_net, read_gmt
from stamp_index.genes.signature import MAX_TERMS
from stamp_index.readers.common.text_numbers import FLOATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.stores import Opened
    from stamp_index.genes import MarkerSet

MAX_FILE_MB = 5
SHOWN_SETS = 50  # of a file; a list of thousands would be slow to draw
SETS_OF_FILE = "gene sets of the file"  # in the session, with the id of the upload


@st.fragment
def gene_sets(opened: Opened, text: str) -> None:
    """A button that opens the sets; what is chosen there becomes the query, or is added to the query `text`."""
    with st.popover("Marker sets", key="markersets", width="stretch"):
        begin = text if st.toggle("Add to the query", key="addset") else ""
        ours, of_file = st.tabs(["Marker sets", "Your own list or file"])
        with ours, st.container(gap="xsmall"):
            _marker_sets(opened, begin)
        with of_file:
            _of_file(opened, begin)


def _marker_sets(opened: Opened, begin: str) -> None:
    known = names(opened).encoded
    offered = available_marker_sets(known)
    if not offered:
        st.caption("The encoder of this store knows too few genes of every marker set.")
    for group, sets in groupby(offered, key=lambda one: one.group):
        st.caption(plain(group))
        with st.container(horizontal=True, gap="small", key=f"sets-{group}"):
            for one in sets:
                usable = one.available(known)
                if st.button(plain(one.title), key=f"set-{one.name}", help=_about(one, usable)):
                    weights = one.signature.weights
                    _use(begin, text_of((gene, weights[gene]) for gene in usable), ())


def _about(one: MarkerSet, usable: Sequence[str]) -> str:
    """Genes of a set, what else there is to know, and its sources; as plain text, without links."""
    parts = [f"{', '.join(one.high)} high" + (f"; {', '.join(one.low)} low" if one.low else "")]
    missing = [gene for gene in one.genes if gene not in usable]
    if missing:
        parts.append(f"Not known to the encoder, left out: {', '.join(missing)}.")
    return "\n\n".join(plain(part) for part in (*parts, one.note, *map(str, one.citations)) if part)


def _of_file(opened: Opened, begin: str) -> None:
    file = st.file_uploader(
        "Gene list, GMT file, or table of source, target and weight",
        type=["gmt", "txt", "csv", "tsv"],
        max_upload_size=MAX_FILE_MB,
        key="genefile",
    )
    if file is None:
        st.session_state.pop(SETS_OF_FILE, None)
        return
    try:
        sets = _sets_of(file.file_id, file.name.lower(), file.getvalue())
        if sets:
            _choose(opened, begin, sets)
        elif st.button("Use this list", key="use-list"):
            _use(begin, *merged("", _decoded(file.getvalue())))
    except QueryError as error:
        st.error(plain(str(error)))


def _sets_of(file_id: str, name: str, content: bytes) -> tuple[GeneSet, ...]:
    """Sets of an upload, read once; kept in the memory of this session while the file is there. None of a mere list."""
    held = st.session_state.get(SETS_OF_FILE)
    if held is None or held[0] != file_id:
        sets = read_gmt(content) if name.endswith(".gmt") else _of_net(content)
        held = st.session_state[SETS_OF_FILE] = file_id, sets
    return held[1]


def _of_net(content: bytes) -> tuple[GeneSet, ...]:
    """Sets of a table with the columns source, target and maybe weight, as decoupler has them; none of another text."""
    text = _decoded(content)
    sign = "\t" if "\t" in text.partition("\n")[0] else ","
    columns = [name.strip().strip('"') for name in text.partition("\n")[0].split(sign)]
    if not {"source", "target"} <= set(columns):
        return ()
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=sign,
            dtype={"source": str, "target": str},
            keep_default_na=False,
            float_precision=FLOATS,
        )
    except (ValueError, pd.errors.ParserError) as error:
        msg = f"The table of gene sets cannot be read: {error}"
        raise QueryError(msg) from error
    return gene_sets_from_net(table)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = "The file holds bytes that are no text in UTF-8. Save it as plain text or CSV."
        raise QueryError(msg) from error


def _choose(opened: Opened, begin: str, sets: Sequence[GeneSet]) -> None:
    """Choose a set of a file by a part of its name."""
    wanted = st.text_input("Find a set", key="find-set", max_chars=100, placeholder="part of its name").casefold().split()  # fmt: skip
    fitting = [at for at, one in enumerate(sets) if all(w in one.name.casefold() for w in wanted)]
    if not fitting:
        st.caption(f"None of the {len(sets):,} sets has such a name.")
        return
    more = f"; the first {SHOWN_SETS} are listed" if len(fitting) > SHOWN_SETS else ""
    at = st.selectbox(
        f"Set · {len(fitting):,} of {len(sets):,} fit{more}",
        fitting[:SHOWN_SETS],
        format_func=lambda at: sets[at].name[:80],
        key="which-set",
    )
    chosen, problems = _askable(opened, sets[at])
    st.caption(plain(f"{len(sets[at].genes)} genes. " + " ".join(problems)))
    usable = text_of(zip(chosen.genes, chosen.weights, strict=True))
    if st.button("Use this set", key="use-set", disabled=not usable):
        _use(begin, usable, problems)


def _askable(opened: Opened, one: GeneSet) -> tuple[GeneSet, tuple[str, ...]]:
    """The part of a set that can be asked for, and a sentence for each part that cannot."""
    known = names(opened)
    states = [meaning(known, gene)[1] for gene in one.genes]
    pairs = list(zip(one.genes, one.weights, states, strict=True))
    kept = [(gene, weight) for gene, weight, state in pairs if state == "ok"]
    left_out = [*one.skipped, *(gene for gene, _, state in pairs if state != "ok")]
    problems = []
    if left_out:
        problems.append(f"{len(left_out)} cannot be asked for, left out: {_some(left_out)}.")
    able = GeneSet(one.name, "", tuple(g for g, _ in kept), tuple(w for _, w in kept))
    if len(kept) > MAX_TERMS:
        how = "first" if len(set(map(abs, able.weights))) == 1 else "heaviest"
        problems.append(f"The {how} {MAX_TERMS} of the other {len(kept)} are used.")
    return able.head(), tuple(problems)


def _some(called: Sequence[str]) -> str:
    more = f" and {len(called) - 12} more" if len(called) > 12 else ""
    return ", ".join(name[:40] for name in called[:12]) + more


def _use(begin: str, query: str, problems: Sequence[str]) -> None:
    """Make a query of a set, after those of `begin`, and draw the page anew."""
    text, others = merged(begin, query) if begin else (query, ())
    if query:
        set_query(text)
    tell_problems((*problems, *others))
    st.rerun()
