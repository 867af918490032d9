"""The cost model finds laws that are known, its units add up, and the document says what it says."""

from __future__ import annotations

import json
import re
from math import ceil

import numpy as np
import pytest

from benchmarks.cost_model import DOCUMENT
from benchmarks.cost_model_parts import fitted_tables, measure, tables
from benchmarks.cost_model_parts.counting_s3 import COUNTS, Counting
from benchmarks.cost_model_parts.known import QUERY_TERMS, fit_all, query_features
from benchmarks.cost_model_parts.laws import Point, fit
from benchmarks.cost_model_parts.limits import limits
from benchmarks.cost_model_parts.lines import MEASURED, Line, append_line, read_lines
from benchmarks.cost_model_parts.merge_run import run_merge
from benchmarks.cost_model_parts.prices import read_prices
from benchmarks.cost_model_parts.simulate import HOUR_S, MONTH_H, SIZES, Model
from stamp_index.index.engine import estimate
from stamp_index.index.recipes import IvfPqRecipe


@pytest.fixture(scope="module")
def lines():
    return read_lines()


@pytest.fixture(scope="module")
def model(lines):
    return tables.model_of(lines, read_prices())


# ---- laws ----------------------------------------------------------------------------------------


def points_of(law, features):
    return [Point(f"{at}", tuple(one), law(*one)) for at, one in enumerate(features)]


def test_a_sum_is_found_whatever_the_size_of_its_terms():
    known = (3e-11, 0.0, 0.25)
    rng = np.random.default_rng(0)
    features = np.column_stack([10 ** rng.uniform(9, 14, 20), rng.uniform(1, 9, 20), np.ones(20)])
    law = fit("", "", ("a", "b", "1"), points_of(lambda *f: float(np.dot(known, f)), features))
    np.testing.assert_allclose(law.weights, known, rtol=1e-6, atol=1e-9)
    assert max(map(abs, law.errors())) < 1e-9


def test_a_power_is_found():
    law = fit("", "", ("n",), points_of(lambda n: 7 * n**0.5, [[1], [10], [300]]), is_power=True)
    assert law(1e4) == pytest.approx(700)
    assert law.formula() == "7 * (n)^0.50"


def test_a_law_of_noisy_measurements_is_near():
    rng = np.random.default_rng(1)
    sizes = np.geomspace(1e5, 5e6, 30)
    points = [Point("", (1.0, n), (2 + 3e-6 * n) * rng.normal(1, 0.05)) for n in sizes]
    law = fit("", "", ("1", "n"), points)
    assert law(1.0, 1e6) == pytest.approx(5, rel=0.05)


def test_the_check_leaves_the_largest_size_out():
    curved = [Point(f"{n}", (1.0, n), n**2, held_out=n == 10) for n in (1, 2, 3, 10)]
    law = fit("", "", ("1", "n"), curved)
    (point, said), *others = law.checked
    alone = fit("", "", ("1", "n"), curved[:3])
    assert (point.value, others) == (100, [])
    assert said == pytest.approx(alone(1.0, 10))
    assert said < 60


def test_a_law_with_more_weights_than_points_is_refused():
    with pytest.raises(ValueError, match="2 weights, and 1 points"):
        fit("of too few", "", ("1", "n"), [Point("", (1.0, 2.0), 3.0)])


def test_the_law_of_the_file_agrees_with_what_the_engine_estimates(model):
    for n in (200_000, 1_000_000, 5_000_000):
        expected = estimate(IvfPqRecipe(), n, model.dim).file_bytes
        assert model.index_bytes(n) == pytest.approx(expected, rel=0.02)


def test_query_features_have_a_word_each():
    assert len(query_features(1e6, 128, 4_000, 32, (64, 400))) == len(QUERY_TERMS)


# ---- what is measured ----------------------------------------------------------------------------


def test_every_run_that_the_document_rests_on_was_measured(lines):
    for kind, (_, keys) in measure.RUNS.items():
        assert [key for key in keys if key not in [o.key for o in lines if o.kind == kind]] == []


def test_lines_say_where_they_come_from(lines):
    for line in lines:
        assert len(line.load) == 2
        assert line.commit
        assert line.machine
        assert line.command.startswith("python benchmarks/cost_model.py one FOLDER ")


def test_a_line_is_read_as_it_was_written(tmp_path):
    line = Line("merge", {"shards": 3}, {"cpu_ms": 0.1}, [1.0, 2.0], "abc", "m", "c", "2026-11-22")
    append_line(tmp_path / "lines.jsonl", line)
    append_line(tmp_path / "lines.jsonl", line)
    assert read_lines(tmp_path / "lines.jsonl") == [line, line]
    assert read_lines(tmp_path / "none.jsonl") == []


def test_only_what_is_missing_is_run(tmp_path, monkeypatch):
    ran = []

    def measured_now(folder, kind, key):
        del folder
        ran.append(key["shards"])
        return Line(kind, key, {}, [0.0, 0.0], "", "", "", "")

    monkeypatch.setattr(measure, "measured_now", measured_now)
    path = tmp_path / "lines.jsonl"
    append_line(path, Line("merge", {"shards": 10}, {}, [0.0, 0.0], "", "", "", ""))
    for _ in range(2):
        measure.measure(tmp_path, path, ["merge"], most_rows=10)
    assert ran == [1, 100, 1_000]


def test_the_counter_of_requests_counts_and_begins_anew():
    def application(environ, start):
        start("200 OK", [])
        return [b"four"] if environ["REQUEST_METHOD"] == "GET" else [b""]

    counting = Counting(application)

    def ask(method, path, query="", length=""):
        environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query}
        return counting({**environ, "CONTENT_LENGTH": length}, lambda *_: None)[0]

    ask("GET", "/a")
    ask("GET", "/", "list-type=2&prefix=x")
    ask("PUT", "/a", length="7")
    expected = {"GET": 1, "LIST": 1, "PUT": 1, "bytes_in": 7, "bytes_out": 8}
    assert json.loads(ask("GET", COUNTS)) == expected
    assert json.loads(ask("GET", COUNTS)) == {}


def test_merging_is_measured(tmp_path):
    assert run_merge(tmp_path, 4)["cpu_ms"] > 0


# ---- the simulation ------------------------------------------------------------------------------


def test_everything_that_a_store_takes_grows_with_it(model):
    plans = [model.plan(n) for n in SIZES]
    grows = ("n_slides", "n_shards", "ram_bytes", "sidecar_bytes", "store_bytes", "n_hosts")
    grows += ("build_cpu_h", "write_cpu_h", "embed_cpu_h", "embed_gpu_h", "query_cpu_ms")
    grows += ("latency_ms", "latency_cold_ms", "writes_month", "usd_month")
    for name in grows:
        values = [getattr(plan, name) for plan in plans]
        assert values == sorted(values), name


def test_rows_bytes_and_money_add_up(model):
    prices = model.prices
    for n in SIZES:
        plan = model.plan(n)
        assert plan.n_shards == ceil(n / model.shard_rows(n)[0])
        assert n <= plan.n_shards * plan.rows_per_shard < n + plan.n_shards
        assert plan.sidecar_bytes == n * 2 * prices("workload", "dim") * 2  # float16, two indexes
        assert plan.query_cpu_ms == pytest.approx(plan.n_shards * plan.shard_cpu_ms)
        assert plan.embed_cpu_h * HOUR_S * prices("embedding", "spots_per_core_s") == pytest.approx(
            n
        )
        held = plan.n_hosts * prices("host", "ram_gib") * 2**30 * prices("bounds", "ram_share")
        assert plan.ram_bytes <= held
        assert plan.n_hosts * prices("host", "nvme_gb") * 1e9 >= plan.sidecar_bytes
        month = plan.n_hosts * prices("host", "usd_per_hour") * MONTH_H
        month += plan.store_bytes / 1e9 * prices("object_storage", "usd_per_gb_month")
        month += plan.reads_month / 1e3 * prices("object_storage", "usd_per_1000_reads")
        month += plan.writes_month / 1e3 * prices("object_storage", "usd_per_1000_writes")
        assert plan.usd_month == pytest.approx(month)


def test_no_shard_is_larger_than_what_was_measured_nor_slower_than_asked_for(model, lines):
    most = max(line.key["n"] for line in lines if line.kind == "index")
    for n in SIZES:
        plan = model.plan(n)
        assert plan.rows_per_shard <= most
        if plan.bound_by != "latency missed":
            assert plan.shard_cpu_ms <= model.prices("bounds", "shard_cpu_ms")


def test_half_the_memory_asks_for_no_fewer_hosts_and_a_lower_bar_for_smaller_shards(model):
    def other(section, name, value):
        prices = model.prices.with_value(section, name, value)
        return Model(model.laws, prices, model.tail).plan(n)

    n = 20_000_000
    plan = model.plan(n)
    assert other("host", "ram_gib", 4).hosts_by_ram > plan.hosts_by_ram
    assert other("bounds", "shard_cpu_ms", 0.97 * plan.shard_cpu_ms).n_shards > plan.n_shards
    dear = other("host", "usd_per_hour", 2 * model.prices("host", "usd_per_hour"))
    assert dear.usd["hosts"] == pytest.approx(2 * plan.usd["hosts"])


def test_a_shard_looks_as_far_as_the_undivided_index(model):
    n, besides = 20_000_000, model.prices("latency", "shard_ms")
    assert model.part_query_ms(n, n) == model.query_ms(n)
    # Comparing with all centres and ranking as many rows is left, however few rows lie in a shard.
    least, nlist = model.part_query_ms(1, n), model.recipe.lists_for(n)
    nothing = query_features(0, model.dim, nlist, 1, model.settings(n))
    slower = model.prices("host", "slower_search")
    assert least == pytest.approx(model.laws["query"](*nothing) * slower + besides, rel=0.01)
    plan = model.plan(n)
    assert plan.query_cpu_ms > model.query_ms(n)
    assert plan.sidecar_reads == plan.n_shards * model.settings(n)[1]
    assert plan.build_cpu_h == model.modalities * model.build_s(n) / HOUR_S


def test_a_bar_that_no_division_reaches_is_said(model):
    n, floor = 100_000_000, model.part_query_ms(1, 100_000_000)
    prices = model.prices.with_value("bounds", "shard_cpu_ms", floor / 2)
    plan = Model(model.laws, prices, model.tail).plan(n)
    assert plan.bound_by == "latency missed"
    assert plan.n_shards == model.plan(n).n_shards


def test_four_shards_cost_what_was_measured_of_four(model):
    """`scale_out.py shards`, 200,000 x 128, commit b9adb5f: 4.9 times the 0.135 CPU ms of the undivided index."""
    prices = model.prices.with_value("workload", "dim", 128).with_value("host", "slower_search", 1)
    small = Model(model.laws, prices, model.tail, "0.95")
    assert 4 * small.part_query_ms(50_000, 200_000) == pytest.approx(4.9 * 0.135, rel=0.05)


def test_the_slowest_of_many_shards_is_slower_than_one(model):
    one, many = (model._latency(shards, 1_000, 1.0) for shards in (1, 1_000))
    assert many > one


def test_limits_are_where_the_laws_say(model):
    found = limits(model)
    assert [one.n_spots for one in found] == sorted(one.n_spots for one in found)
    query = next(one for one in found if one.what.startswith("a query in one index"))
    assert model.query_ms(query.n_spots) == pytest.approx(10, rel=0.01)


def test_limits_name_files_and_names_that_are_there(model):
    package = DOCUMENT.parent.parent / "stamp_index"
    code = {path: path.read_text("utf-8") for path in package.rglob("*.py")}
    for one in limits(model):
        said = re.findall(r"`([\w./]+?)`", one.where)
        files = [name for name in said if name.endswith(".py")]
        assert files, one.where
        assert [name for name in files if package / name not in code] == []
        for name in set(said) - set(files):
            last = name.rsplit(".", 1)[-1]
            assert any(re.search(rf"\b{last}\b", text) for text in code.values()), name


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        pytest.param('{ value = 1, unit = "a", source = "b" }', "has", id="no date"),
        pytest.param(
            '{ value = 0, unit = "a", source = "b", date = "2026-11" }', "above 0", id="0"
        ),
        pytest.param(
            '{ value = 1, unit = "a", source = "b", date = "soon" }', "isoformat", id="no day"
        ),
    ],
)
def test_a_price_without_source_and_date_is_refused(tmp_path, entry, says):
    path = tmp_path / "prices.toml"
    path.write_text(f"[host]\nvcpus = {entry}\n", "utf-8")
    with pytest.raises(ValueError, match=says):
        read_prices(path)


# ---- the document --------------------------------------------------------------------------------


def test_the_tables_of_the_document_are_those_of_the_stored_measurements(lines):
    """Run `python benchmarks/cost_model.py document` where this fails."""
    text = DOCUMENT.read_text("utf-8")
    assert tables.rewrite(text, tables.all_tables(lines, read_prices())) == text


def test_a_document_that_lacks_a_table_is_refused():
    with pytest.raises(ValueError, match="laws"):
        tables.rewrite("<!-- cost-model: laws -->\n<!-- /cost-model -->", {"laws": "", "index": ""})


def test_what_was_published_is_read_from_its_rows():
    found = fitted_tables.published()
    text = fitted_tables.RESULTS.read_text("utf-8")
    assert len(found) == 5
    for value, begins in found.values():
        row = next(line for line in text.splitlines() if line.startswith(begins))
        assert f"{value:g}" in row.replace(".80", ".8")


def test_fitting_needs_no_folder(lines):
    assert len(fit_all(lines)) > 20
    assert MEASURED.is_file()
