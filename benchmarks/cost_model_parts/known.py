"""The laws that are fitted, each from the lines of one kind of run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.cost_model_parts.laws import Law, Point, fit
from benchmarks.cost_model_parts.lines import of_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.cost_model_parts.lines import Line

    Features = Callable[[Line], tuple[float, ...]]
    Value = Callable[[Line], float]

TARGETS: Final = ("0.95", "0.99")
PICTURE_BYTES: Final = "thumbnail_bytes"


def fit_all(lines: list[Line]) -> dict[str, Law]:
    """Every law, by its name."""
    families = (_building, _sizes, _query, _settings, _scans, _changes, _rows, _growing, _opening)
    laws = [law for family in (*families, _requests) for law in family(lines)]
    return {law.name: law for law in laws}


# ---- an index ------------------------------------------------------------------------------------


def shape(n: float, dim: float, nlist: float, sample: float) -> dict[str, float]:
    """Products that building is in proportion to."""
    return {"train": sample * nlist * dim, "compare": n * nlist * dim, "code": n * dim * dim}


def _building(lines: list[Line]) -> list[Law]:
    found = of_kind(lines, "index")

    def products(line: Line) -> dict[str, float]:
        key, values = line.key, line.values
        return shape(key["n"], key["dim"], values["nlist"], values["sample_rows"])

    def stage(name: str) -> Value:
        return lambda line: float(line.values["stages"][name]["cpu_s"])

    return [
        _law(
            ("train", "CPU s", ("sample * nlist * d", "d", "d^2")),
            found,
            lambda line: (products(line)["train"], line.key["dim"], line.key["dim"] ** 2),
            stage("train"),
        ),
        _law(
            ("fill", "CPU s", ("n * nlist * d", "n * d", "n * d^2")),
            found,
            lambda line: (
                products(line)["compare"],
                line.key["n"] * line.key["dim"],
                products(line)["code"],
            ),
            stage("fill"),
        ),
        _law(
            ("measure settings", "CPU s", ("1", "n * d")),
            # Where a target is missed, every breadth is tried: a build that is thrown away, not one that serves.
            [line for line in found if line.values["choices"][-1]["reached"]],
            lambda line: (1.0, line.key["n"] * line.key["dim"]),
            stage("calibrate"),
        ),
    ]


def _sizes(lines: list[Line]) -> list[Law]:
    found = of_kind(lines, "index")
    return [
        _law(
            ("index file", "bytes", ("n", "n * code bytes", "nlist * d", "d^2")),
            found,
            lambda line: (
                line.key["n"],
                line.key["n"] * line.values["code_bytes"],
                line.values["nlist"] * line.key["dim"],
                line.key["dim"] ** 2,
            ),
            lambda line: float(line.values["index_bytes"]),
        ),
        _law(
            ("build, peak resident", "MiB", ("1", "index bytes", "sidecar bytes", "sample * d")),
            found,
            lambda line: (
                1.0,
                line.values["index_bytes"],
                line.values["sidecar_bytes"],
                line.values["sample_rows"] * line.key["dim"],
            ),
            lambda line: float(line.values["build_peak_resident_mib"]),
        ),
    ]


def query_features(
    n: float, dim: float, nlist: float, code_bytes: float, setting: tuple[float, float]
) -> tuple[float, ...]:
    """Terms of the law of one query: fixed, lists, codes, centres, rotation and tables, ranked rows."""
    probes, depth = setting
    return (
        1.0,
        probes,
        probes * n / nlist * code_bytes,
        nlist * dim,
        dim * dim,
        depth,
        depth * dim,
    )


QUERY_TERMS: Final = (
    "1",
    "nprobe",
    "nprobe * n / nlist * code bytes",
    "nlist * d",
    "d^2",
    "ranked",
    "ranked * d",
)


def _query(lines: list[Line]) -> list[Law]:
    found, built = of_kind(lines, "query"), {_at(one): one for one in of_kind(lines, "index")}
    points = []
    for line in found:
        n, dim = _at(line)
        nlist, code = (built[_at(line)].values[name] for name in ("nlist", "code_bytes"))
        for probes, depth, value in line.values["grid"]:
            features = query_features(n, dim, nlist, code, (probes, depth))
            name = f"{_name(line)}, {probes}, {depth}"
            points.append(Point(name, features, value, _is_largest(line, found)))
    return [fit("query", "CPU ms", QUERY_TERMS, points)]


def _settings(lines: list[Line]) -> list[Law]:
    found = of_kind(lines, "query")
    return [
        _law(
            (f"{word} at {target}", "", ("n / 1e6",)),
            found,
            lambda line: (line.key["n"] / 1e6,),
            lambda line, target=target, field=field: float(line.values["at"][target][field]),  # type: ignore[misc]
            is_power=True,
        )
        for target in TARGETS
        for field, word in (("breadth", "nprobe"), ("n_rerank", "ranked"))
    ]


def _scans(lines: list[Line]) -> list[Law]:
    """Fit what is linear in the rows of an index."""
    found = of_kind(lines, "query")
    rows: Features = lambda line: (line.key["n"],)  # noqa: E731
    return [
        _law(
            ("exact", "CPU ms", ("n * d",)),
            found,
            lambda line: (line.key["n"] * line.key["dim"],),
            lambda line: float(line.values["exact_cpu_ms_one"]),
        ),
        _law(
            ("filter of scattered rows", "CPU ms", ("n",)),
            found,
            rows,
            lambda line: float(line.values["filter_scattered_cpu_ms"]),
        ),
        _law(
            ("filter of whole slides", "CPU ms", ("n",)),
            found,
            rows,
            lambda line: float(line.values["filter_slides_cpu_ms"]),
        ),
    ]


def _changes(lines: list[Line]) -> list[Law]:
    """Fit what rows added since cost, what folding them in does, and merging the hits of shards."""
    found = of_kind(lines, "query")
    newer = [
        Point(
            f"{_name(line)}, {m:,} newer",
            (1.0, m * line.key["dim"]),
            value,
            _is_largest(line, found),
        )
        for line in found
        for m, value in line.values["newer_cpu_ms"]
    ]
    return [
        fit("newer rows, a query", "CPU ms", ("1", "newer * d"), newer),
        _law(
            ("fold: file read, written, hashed", "CPU s", ("index bytes",)),
            of_kind(lines, "fold"),
            lambda line: (line.values["index_bytes"],),
            lambda line: sum(line.values[f"{name}_cpu_s"] for name in ("read", "write", "hash")),
        ),
        _law(
            ("merge of shards", "CPU ms", ("shards",)),
            of_kind(lines, "merge"),
            lambda line: (line.key["shards"],),
            lambda line: float(line.values["cpu_ms"]),
            is_power=True,
        ),
    ]


# ---- a store -------------------------------------------------------------------------------------


def _rows(lines: list[Line]) -> list[Law]:
    """Fit bytes and CPU of a row that is written."""
    found = of_kind(lines, "write")
    genes: Features = lambda line: (1.0, line.values["genes_per_spot"])  # noqa: E731
    return [
        _law(
            ("spots table", "bytes a row", ("1", "genes of a spot")),
            found,
            genes,
            lambda line: float(line.values["bytes_per_row"]["spots"]),
        ),
        _law(
            ("expression table", "bytes a row", ("genes of a spot",)),
            found,
            lambda line: (line.values["genes_per_spot"],),
            lambda line: float(line.values["bytes_per_row"]["expression"]),
            is_power=True,
        ),
        _law(
            ("add, a row", "CPU us", ("1", "genes of a spot")),
            found,
            genes,
            lambda line: float(line.values["add_cpu_us_per_row"]),
        ),
    ]


def _growing(lines: list[Line]) -> list[Law]:
    found = of_kind(lines, "grow")
    return [
        _law(
            ("add, a slide", "CPU ms", ("1", "slides", "spots of a slide", "spots")),
            found,
            lambda line: (1.0, line.key["slides"], line.key["spots"], line.values["rows"]),
            lambda line: float(line.values["add_cpu_ms"]),
        ),
        _law(
            ("compact", "CPU s", ("1", "slides", "spots")),
            found,
            lambda line: (1.0, line.key["slides"], line.values["rows"]),
            lambda line: float(line.values["compact_cpu_s"]),
        ),
    ]


OPENED: Final = ("store", "slides", "layout", "mask", "index", "hits_first")


def _opening(lines: list[Line]) -> list[Law]:
    found = of_kind(lines, "open")
    size: Features = lambda line: (1.0, line.key["slides"], line.values["rows"])  # noqa: E731
    terms = ("1", "slides", "spots")

    def spent(line: Line) -> float:
        return float(sum(line.values[name]["cpu_ms"] for name in OPENED))

    def held(line: Line) -> float:
        return float(line.values["hits_first"]["own_mib"] - line.values["nothing"]["own_mib"])

    def most(line: Line) -> float:
        return max(line.values[name]["peak_mib"] for name in OPENED) - float(
            line.values["nothing"]["peak_mib"]
        )

    laws = [
        _law(("open, once", "CPU ms", terms), found, size, spent),
        _law(("open, memory held", "MiB", terms), found, size, held),
        _law(("open, peak memory", "MiB", terms), found, size, most),
    ]
    for name, field in (
        ("48 hits, columns kept", "hits_kept_cpu_ms"),
        ("48 hits, columns taken", "hits_taken_cpu_ms"),
    ):
        laws.append(
            _law(
                (name, "CPU ms", terms),
                found,
                size,
                lambda line, field=field: float(line.values[field]),  # type: ignore[misc]
            )
        )
    return laws


REQUEST_SPOTS: Final = 200  # of a slide whose requests are counted
READS: Final = ("GET", "HEAD")
WRITES: Final = ("PUT", "POST", "LIST")
STEPS: Final = {
    "add": "a slide added",
    "fold_and_push": "fold, index sent",
    "open": "store opened",
    "open_searcher": "searcher opened, nothing here",
    "open_searcher_again": "searcher opened again",
    "search_first": "the first 48 hits of a process",
    "search": "48 hits with two genes",
    "pictures": "pictures of 48 hits",
    "refresh": "refresh",
    "delete": "a slide deleted",
    "compact": "compaction",
}


HITS: Final = 48
OF_HITS: Final = ("search", "pictures")  # steps that read the files in which hits lie


def slides_met(slides: float) -> float:
    """Different slides that 48 hits lie on, on average, where hits fall on slides by chance."""
    return slides * (1 - (1 - 1 / slides) ** HITS) if slides > 1 else 1.0


def n_requests(counts: dict[str, Any], methods: tuple[str, ...]) -> int:
    """Count the requests of some methods."""
    return sum(counts.get(method, 0) for method in methods)


def _requests(lines: list[Line]) -> list[Law]:
    found = of_kind(lines, "requests")
    joined = [one for one in found if one.key["compact"] == 1]
    found = [one for one in found if one.key["compact"] == 0]
    spots: Features = lambda line: (1.0, (line.key["slides"] - 1) * REQUEST_SPOTS)  # noqa: E731
    compaction = _law(
        ("compaction: reads", "requests", ("1", "spots")),
        joined,
        spots,
        lambda line: n_requests(line.values["compact"], READS),
    )
    others = [
        _law(
            (f"{words}: {kind}", "requests", ("1", "slides met" if step in OF_HITS else "slides")),
            found,
            lambda line, step=step: (  # type: ignore[misc]
                1.0,
                (slides_met if step in OF_HITS else float)(line.key["slides"]),
            ),
            lambda line, step=step, methods=methods: max(  # type: ignore[misc]
                n_requests(line.values[step], methods), 1e-9
            ),
        )
        for step, words in STEPS.items()
        for kind, methods in (("reads", READS), ("writes and lists", WRITES))
        if any(n_requests(line.values.get(step, {}), methods) for line in found)
    ]
    return [*others, compaction]


# ---- helpers -------------------------------------------------------------------------------------


def _law(
    about: tuple[str, str, tuple[str, ...]],
    lines: list[Line],
    features: Features,
    value: Value,
    *,
    is_power: bool = False,
) -> Law:
    name, unit, terms = about
    points = [
        Point(_name(line), features(line), value(line), _is_largest(line, lines)) for line in lines
    ]
    return fit(name, unit, terms, points, is_power=is_power)


def _at(line: Line) -> tuple[int, int]:
    return line.key["n"], line.key["dim"]


def _size(line: Line) -> int:
    key = line.key
    if "n" in key:
        return key["n"]
    return key.get("umi") or key.get("shards") or key["slides"] * key.get("spots", 1)


def _is_largest(line: Line, lines: list[Line]) -> bool:
    return _size(line) == max(map(_size, lines))


def _name(line: Line) -> str:
    key = line.key
    if "n" in key:
        return f"{key['n'] / 1e6:g}M x {key['dim']}"
    if "umi" in key:
        return f"{key['umi']:,} counts a spot"
    if "shards" in key:
        return f"{key['shards']:,} shards"
    words = f"{key['slides']} slides"
    return f"{words} of {key['spots']:,}" if "spots" in key else words
