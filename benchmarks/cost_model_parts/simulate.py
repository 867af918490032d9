"""What the laws and the prices say of a store of any size: shards, hosts, memory, CPU hours, requests, latency, money."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.cost_model_parts.known import query_features, shape, slides_met
from stamp_index.index.recipes import IvfPqRecipe
from stamp_index.store.reading import _KEPT_SPOTS

if TYPE_CHECKING:
    from benchmarks.cost_model_parts.laws import Law
    from benchmarks.cost_model_parts.prices import Prices

SIZES: Final = (200_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000, 1_000_000_000)
GIB: Final = 2**30
MIB: Final = 2**20
HOUR_S: Final = 3_600
MONTH_H: Final = 730
# Bytes a row that a process keeps, as the code says (the laws of opening hold the rest):
LIST_OF_BYTES: Final = 4  # `Lists.list_of`, int32, of each index once it was filtered
ROWS_BYTES: Final = (
    8  # `Contents.rows`, int64, of each index; the first one's is in the law of opening
)
# `SearchEngine` keeps 8 filters and 8 selections of one byte a row, and of each selection one bit a row and index.
FILTER_BYTES: Final = 8 + 8 + 8 * 2 / 8
PART_FILTER_BYTES: Final = (
    8 * 2 / 8
)  # `Part` keeps 8 filters of each index: a bit a row as sent, and one as searched
MERGED: Final = 48  # hits that each shard sends
_GRID: Final = 200  # sizes of a shard that are tried


@dataclass(frozen=True)
class Plan:
    """One store, simulated.

    Attributes
    ----------
    n_spots, n_slides, n_shards, rows_per_shard : int
        Its size and how it is divided.
    bound_by : str
        What keeps a shard from being larger; "latency missed" where no division brings a query below the bar.
    nprobe, n_rerank : float
        Settings in every shard: those of the undivided index, from the laws of the card's choices.
    ram_bytes, asker_bytes, sidecar_bytes, store_bytes : float
        Of the shards and one process that asks them; of that process; of float16 vectors on NVMe; of tables and indexes in object storage.
    hosts_by_ram, hosts_by_latency, hosts_by_load, hosts_by_disk : int
        Hosts that each bound asks for; `n_hosts` is the most of them.
    build_cpu_h, write_cpu_h, embed_cpu_h, embed_gpu_h : float
        Once for the whole store; embedding on CPUs or on GPUs, not both.
    query_cpu_ms, shard_cpu_ms : float
        Of one query over all shards, and over one.
    latency_ms, latency_cold_ms : float
        Median of one query at low load: vectors in memory, and as many from NVMe as have no room there.
    hits_remote_ms : float
        To be added where the tables that hits are read from lie in object storage.
    sidecar_reads : float
        Vectors that one query ranks exactly over all shards.
    reads_month, writes_month : float
        Requests to object storage.
    usd : dict of str to float
        "hosts", "storage" and "requests" a month, "build", "embed_cpu" and "embed_gpu" once, "query_1000" of 1,000 queries.
    """

    n_spots: int
    n_slides: int
    n_shards: int
    rows_per_shard: int
    bound_by: str
    nprobe: float
    n_rerank: float
    ram_bytes: float
    asker_bytes: float
    sidecar_bytes: float
    store_bytes: float
    hosts_by_ram: int
    hosts_by_latency: int
    hosts_by_load: int
    hosts_by_disk: int
    build_cpu_h: float
    write_cpu_h: float
    embed_cpu_h: float
    embed_gpu_h: float
    query_cpu_ms: float
    shard_cpu_ms: float
    latency_ms: float
    latency_cold_ms: float
    hits_remote_ms: float
    sidecar_reads: float
    reads_month: float
    writes_month: float
    usd: dict[str, float]

    @property
    def n_hosts(self) -> int:
        """Hosts that serve."""
        return max(self.hosts_by_ram, self.hosts_by_latency, self.hosts_by_load, self.hosts_by_disk)

    @property
    def usd_month(self) -> float:
        """Money for a month of serving."""
        return sum(self.usd[name] for name in ("hosts", "storage", "requests"))


class Model:
    """Laws and prices together.

    Parameters
    ----------
    laws : dict of str to Law
        From `known.fit_all`.
    prices : Prices
        What was not measured.
    tail : ndarray of shape (2, m)
        Shares of queries, and their CPU by the median: how uneven queries of one index are.
    target : str
        Recall, "0.95" or "0.99".
    """

    def __init__(
        self, laws: dict[str, Law], prices: Prices, tail: np.ndarray, target: str = "0.99"
    ) -> None:
        self.laws, self.prices, self.tail, self.target = laws, prices, tail, target
        self.recipe, self.dim = IvfPqRecipe(), int(prices("workload", "dim"))
        self.modalities = int(prices("workload", "modalities"))

    # ---- one index, and a shard of it ------------------------------------------------------------

    def settings(self, n: float) -> tuple[float, float]:
        """Return lists looked into and candidates ranked in an index of n rows."""
        nlist = self.recipe.lists_for(int(n))
        probes = self.laws[f"nprobe at {self.target}"](n / 1e6)
        return min(probes, nlist), self.laws[f"ranked at {self.target}"](n / 1e6)

    def query_ms(self, n: float) -> float:
        """CPU ms of one query in an undivided index of n rows."""
        return self.part_query_ms(n, n)

    def part_query_ms(self, rows: float, n: float) -> float:
        """CPU ms of one query in a shard of so many rows of an index of n.

        Its lists are those of the undivided index: it compares a query with all centres, looks into as many lists, each
        with its share of their rows, and ranks as many candidates.
        """
        nlist, code = self.recipe.lists_for(int(n)), self.recipe.code_bytes(self.dim)
        features = query_features(rows, self.dim, nlist, code, self.settings(n))
        besides = self.prices("latency", "shard_ms") if rows < n else 0.0
        return self.laws["query"](*features) * self.prices("host", "slower_search") + besides

    def index_bytes(self, n: float) -> float:
        """Bytes of one undivided FAISS file."""
        return self.part_bytes(n, n)

    def part_bytes(self, rows: float, n: float) -> float:
        """Bytes of the FAISS file of a shard, which holds the centres of all n rows."""
        nlist, code = self.recipe.lists_for(int(n)), self.recipe.code_bytes(self.dim)
        return self.laws["index file"](rows, rows * code, nlist * self.dim, self.dim**2)

    def stage_s(self, stage: str, n: float) -> float:
        """CPU seconds of "train", "fill" or "measure settings" of one index."""
        nlist, sample = self.recipe.lists_for(int(n)), self.recipe.sample_for(int(n))
        products = shape(n, self.dim, nlist, sample)
        features = {
            "train": (products["train"], self.dim, self.dim**2),
            "fill": (products["compare"], n * self.dim, products["code"]),
            "measure settings": (1.0, n * self.dim),
        }[stage]
        return self.laws[stage](*features) * self.prices("host", "slower_build")

    def build_s(self, n: float) -> float:
        """CPU seconds of building one index."""
        return sum(self.stage_s(stage, n) for stage in ("train", "fill", "measure settings"))

    def part_ram_bytes(self, rows: float, n: float) -> float:
        """Memory of what answers for one shard of each index; it opens no tables."""
        each = self.part_bytes(rows, n) + (LIST_OF_BYTES + PART_FILTER_BYTES) * rows
        return self.modalities * each

    def asker_bytes(self, n: float) -> float:
        """Memory of a process that searches a store of n spots, without indexes: it holds something of every row."""
        opened = MIB * self.laws["open, memory held"](1.0, n / self._per_slide(), n)
        return opened + (self.modalities - 1) * ROWS_BYTES * n + FILTER_BYTES * n

    def shard_rows(self, n: int) -> tuple[int, str]:
        """Most rows that one shard of a store of n may have, and why not more."""
        most = self.prices("bounds", "shard_rows")
        bar = self.prices("bounds", "shard_cpu_ms")
        ram = self.prices("host", "ram_gib") * GIB * self.prices("bounds", "ram_share")
        sizes = np.geomspace(10_000, min(n, most), _GRID)
        can_meet = self.part_query_ms(sizes[0], n) <= bar  # else the centres alone take as long
        best, why = 1.0, "memory"
        for rows in sizes:
            if can_meet and self.part_query_ms(rows, n) > bar:
                why = "latency"
                break
            if self.part_ram_bytes(rows, n) > ram:
                why = "memory"
                break
            best, why = rows, "all" if rows < most * 0.999 else "shard_rows"
        return round(best), why if can_meet else "latency missed"

    # ---- the whole -------------------------------------------------------------------------------

    def plan(self, n: int) -> Plan:
        """Simulate a store of n spots."""
        rows, why = self.shard_rows(n)
        n_shards = ceil(n / rows)
        each = n / n_shards
        n_slides = ceil(n / self._per_slide())
        probes, depth = self.settings(n)
        ram = n_shards * self.part_ram_bytes(each, n) + self.asker_bytes(n)
        sidecar = 2.0 * n * self.dim * self.modalities
        shard_ms = self.part_query_ms(each, n)
        hosts = self._hosts(n_shards, ram, sidecar, shard_ms)
        cached = min(1.0, max(hosts["n"] * self._host_ram() - ram, 0.0) / sidecar)
        cold_ms = depth * (1 - cached) * self.prices("latency", "nvme_read_us") / 1e3
        warm = self._latency(n_shards, hosts["n"], shard_ms) + self._hits_ms(n)
        bytes_held = self._store_bytes(n) + self.modalities * self.index_bytes(n) + sidecar
        reads, writes = self._requests(n_slides, hosts["n"])
        build_h = self.modalities * self.build_s(n) / HOUR_S
        write_h = n * self.laws["add, a row"](1.0, self._genes()) / 1e6 / HOUR_S
        cpu_h = n / self.prices("embedding", "spots_per_core_s") / HOUR_S
        gpu_h = n / self.prices("embedding", "spots_per_gpu_s") / HOUR_S
        usd = {
            **self._usd_month(hosts["n"], bytes_held, reads, writes),
            "build": (build_h + write_h) * self.prices("batch", "usd_per_vcpu_hour"),
            "embed_cpu": cpu_h * self.prices("batch", "usd_per_vcpu_hour"),
            "embed_gpu": gpu_h * self.prices("embedding", "usd_per_gpu_hour"),
            "query_1000": n_shards * shard_ms / HOUR_S * self._usd_per_busy_vcpu_hour(),
        }
        return Plan(
            n_spots=n,
            n_slides=n_slides,
            n_shards=n_shards,
            rows_per_shard=ceil(each),
            bound_by=why,
            nprobe=probes,
            n_rerank=depth,
            ram_bytes=ram,
            asker_bytes=self.asker_bytes(n),
            sidecar_bytes=sidecar,
            store_bytes=bytes_held,
            hosts_by_ram=hosts["ram"],
            hosts_by_latency=hosts["latency"],
            hosts_by_load=hosts["load"],
            hosts_by_disk=hosts["disk"],
            build_cpu_h=build_h,
            write_cpu_h=write_h,
            embed_cpu_h=cpu_h,
            embed_gpu_h=gpu_h,
            query_cpu_ms=n_shards * shard_ms,
            shard_cpu_ms=shard_ms,
            latency_ms=warm,
            latency_cold_ms=warm + cold_ms,
            hits_remote_ms=self._hits_remote_ms(n_slides),
            sidecar_reads=n_shards * depth,
            reads_month=reads,
            writes_month=writes,
            usd=usd,
        )

    # ---- helpers ---------------------------------------------------------------------------------

    def _per_slide(self) -> float:
        return self.prices("workload", "spots_per_slide")

    def _genes(self) -> float:
        return self.prices("workload", "genes_per_spot")

    def _host_ram(self) -> float:
        return self.prices("host", "ram_gib") * GIB

    def _usd_month(
        self, n_hosts: int, n_bytes: float, reads: float, writes: float
    ) -> dict[str, float]:
        reads_usd = reads / 1e3 * self.prices("object_storage", "usd_per_1000_reads")
        writes_usd = writes / 1e3 * self.prices("object_storage", "usd_per_1000_writes")
        return {
            "hosts": n_hosts * self.prices("host", "usd_per_hour") * MONTH_H,
            "storage": n_bytes / 1e9 * self.prices("object_storage", "usd_per_gb_month"),
            "requests": reads_usd + writes_usd,
        }

    def _usd_per_busy_vcpu_hour(self) -> float:
        per_vcpu = self.prices("host", "usd_per_hour") / self.prices("host", "vcpus")
        return per_vcpu / self.prices("bounds", "busy_share")

    def _hosts(self, n_shards: int, ram: float, sidecar: float, shard_ms: float) -> dict[str, int]:
        vcpus = self.prices("host", "vcpus")
        per_s = self.prices("workload", "queries_per_month") / (MONTH_H * HOUR_S)
        busy = per_s * n_shards * shard_ms / 1e3 / self.prices("bounds", "busy_share")
        hosts = {
            "ram": ceil(ram / (self._host_ram() * self.prices("bounds", "ram_share"))),
            "latency": ceil(
                n_shards / vcpus
            ),  # every shard has a vCPU, so that one query waits once
            "load": ceil(busy / vcpus),
            "disk": ceil(sidecar / (self.prices("host", "nvme_gb") * 1e9)),
        }
        return {**hosts, "n": max(hosts.values())}

    def _latency(self, n_shards: int, n_hosts: int, shard_ms: float) -> float:
        """Median of the slowest of all shards, in as many turns as a host needs and the merge; without the hits.

        Of S shards the slowest is below x where each is: with probability .5 at the quantile .5^(1/S) of one.
        """
        turns = ceil(ceil(n_shards / n_hosts) / self.prices("host", "vcpus"))
        slowest = float(np.interp(0.5 ** (1 / n_shards), self.tail[0], self.tail[1]))
        between = self.prices("latency", "round_trip_ms") if n_shards > 1 else 0.0
        merge = self.laws["merge of shards"](n_shards) if n_shards > 1 else 0.0
        return shard_ms * slowest * turns + between + merge

    def _hits_ms(self, n: float) -> float:
        """Time of making an answer of 48 hits; more where a store of n spots keeps no columns."""
        kept, taken = (
            self.laws[f"48 hits, columns {how}"](1.0, n / self._per_slide(), n)
            for how in ("kept", "taken")
        )
        more = max(taken - kept, 0.0) if n > _KEPT_SPOTS else 0.0
        return self.prices("latency", "answer_ms") + more

    def _hits_remote_ms(self, n_slides: int) -> float:
        """Time the reads of 48 hits and their genes from object storage, so many at once."""
        n_reads = self.laws["48 hits with two genes: reads"](1.0, slides_met(n_slides))
        turns = ceil(n_reads / self.prices("latency", "gets_at_once"))
        return turns * self.prices("latency", "object_get_ms")

    def _store_bytes(self, n: float) -> float:
        """Bytes of the tables of spots and of expression; the measured rows have two vectors of d = 512."""
        spots = self.laws["spots table"](1.0, self._genes())
        vectors = 2 * 2 * (self.dim - MEASURED_DIM)
        return n * (spots + vectors + self.laws["expression table"](self._genes()))

    def _requests(self, n_slides: int, n_hosts: int) -> tuple[float, float]:
        """Count reads and writes a month; the store is compacted before it has more files than were measured."""
        held, met = min(n_slides, MEASURED_FILES), slides_met(n_slides)
        added = n_slides * self.prices("workload", "share_added")
        asked = self.prices("workload", "queries_per_month")
        opened = n_hosts * self.prices("workload", "opens_per_host")
        often = (
            ("a slide added", added, held),
            ("48 hits with two genes", asked, met),
            ("pictures of 48 hits", asked, met),
            ("searcher opened again", opened, held),
        )
        total = {"reads": 0.0, "writes and lists": 0.0}
        for step, times, files in often:
            for kind in total:
                law = self.laws.get(f"{step}: {kind}")
                total[kind] += 0.0 if law is None else times * law(1.0, files)
        return total["reads"], total["writes and lists"]


MEASURED_DIM: Final = 512  # of the stores of `store_run.run_write`
MEASURED_FILES: Final = 64  # slides of the largest store that requests were counted on
