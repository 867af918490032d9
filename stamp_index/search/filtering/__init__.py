r"""Filters: which spots may be hits, in a small language.

::

    organ == "breast" and patient not in ("P1", "P7") and expr("CD8A") > 1

The language
------------
A filter is a condition, or several joined by ``and``, ``or`` and ``not``; ``not`` binds closest,
then ``and``, and parentheses group. These words may be written in any case. An empty filter lets
every spot pass.

=========================================  ==========================================================
condition                                  true where
=========================================  ==========================================================
``organ == "breast"``, ``!=``              the values are the same, or differ; case matters
``n_counts > 1000``, ``<``, ``<=``, ``>=`` the number is above (only numbers have an order)
``0 < x_um <= 500``                        both hold
``organ in ("breast", "skin")``            one of the values is the same; ``not in``: none is;
                                           ``["breast", "skin"]`` and a single value are fine too
``expr("CD8A") is known``                  there is a value; ``is missing``: there is none
=========================================  ==========================================================

Text stands in double or single quotes; ``\"``, ``\'`` and ``\\`` inside are quotes and a backslash.
Numbers are written ``5``, ``-0.5`` or ``1e3``, with no unit.

==================  ====================================================================================
of slides, text     ``organ``, ``disease``, ``species``, ``platform``, ``patient``, ``slide``
of slides, number   ``mpp`` (microns per pixel)
of spots, number    ``x_um``, ``y_um`` (microns), ``x_px``, ``y_px`` (level-0 pixels), ``n_counts``,
                    ``n_genes`` (missing where nothing was measured); shares from 0 to 1: ``mito_fraction``
                    of counts, and ``tissue_fraction``, ``pen_fraction``, ``fold_fraction``,
                    ``blur_fraction``, ``outside_fraction`` of the patch
of spots, text      ``barcode``, ``spot`` (``<slide>:<barcode>``)
``expr("CD8A")``    expression: natural logarithm of 1 + counts per 10,000
``count("CD8A")``   raw count
``label("region")`` a label, text or number
==================  ====================================================================================

A filter has at most 10,000 characters, 64 conditions inside each other and 10,000 values in a list.

A name or value that the store does not have is refused, with what it has, as a typo would silently
find nothing. Only barcodes and numbers are not looked up.

What is missing
---------------
A field's text that nobody knows is the empty text, an ordinary value: ``patient != "P1"`` lets
spots of unknown patients pass, and ``patient is missing`` says the same as ``patient == ""``.

A gene is missing where the slide did not measure it, a label where a spot has none, and any other
number where the source had none. A comparison with what is missing (or of a number with a label that
is text there) is neither true nor false but unknown, and a spot passes only where the whole filter is
true. So neither ``expr("CD8A") > 1`` nor
``not (expr("CD8A") > 1)`` lets spots pass where CD8A was not measured.

========  ========  ===========  ===========  =========
a         b         a and b      a or b       not a
========  ========  ===========  ===========  =========
true      true      true         true         false
true      false     false        true         false
true      unknown   unknown      true         false
false     true      false        true         true
false     false     false        false        true
false     unknown   false        unknown      true
unknown   true      unknown      true         unknown
unknown   false     false        unknown      unknown
unknown   unknown   unknown      unknown      unknown
========  ========  ===========  ===========  =========

Ten examples
------------
::

    organ == "breast"
    organ in ("breast", "skin") and disease != "healthy"
    patient not in ("P1", "P7")
    patient is known and platform == "Visium"
    0 < x_um <= 500 and 0 < y_um <= 500
    n_counts >= 1000 and n_genes > 300
    expr("CD8A") > 1 and not expr("EPCAM") > 1
    label("region") == "tumour" or label("grade") >= 2
    count("ERBB2") > 0 or expr("ERBB2") is missing
    (organ == "skin" or slide == "S2") and mpp < 0.6

From Python
-----------
`parse_filter` reads the text, `all_of`, `field_in` and `field_not_in` make the same without text,
`str` writes it, `evaluate` finds the rows that pass, and `to_arrow` gives what a scan of the spots
table can decide.
"""

from __future__ import annotations

from stamp_index.search.filtering.arrow import Pushed, to_arrow
from stamp_index.search.filtering.build import all_of, field_in, field_not_in
from stamp_index.search.filtering.columns import Columns
from stamp_index.search.filtering.evaluate import Allowed, evaluate
from stamp_index.search.filtering.nodes import (
    And,
    Call,
    Compare,
    Condition,
    Field,
    In,
    Known,
    Not,
    Or,
)
from stamp_index.search.filtering.parse import parse_filter

__all__ = [
    "Allowed",
    "And",
    "Call",
    "Columns",
    "Compare",
    "Condition",
    "Field",
    "In",
    "Known",
    "Not",
    "Or",
    "Pushed",
    "all_of",
    "evaluate",
    "field_in",
    "field_not_in",
    "parse_filter",
    "to_arrow",
]
