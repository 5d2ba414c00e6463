"""From results.json to the tables of docs/benchmarks.md. Pure: numbers in, text out."""

import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import batching

GIGABYTE = 1e9
MET, MISSED = "met", "**missed**"
TARGETS = {
    "up from nothing": ("`mlops-pipeline up` from nothing", 60.0),
    "up again": ("`mlops-pipeline up` again", 10.0),
    "changed model": ("`mlops-pipeline up flowers`, a changed Iris, to its proof", 15.0),
    "status": ("`mlops-pipeline status`", None),
    "definitions": ("A Python process that makes the definitions", 2.0),
}
"""Measure → how the page names it, and the most seconds it should take."""
MOST_MEMORY = 1.5
"""GB of all processes together."""
LEAST_THROUGHPUT = 1.3
"""Times MLServer's."""
MOST_LATENCY = 2.5
"""Times the bare limit's median."""
MOST_MILLISECONDS = 10.0
LEAST_REQUESTS = {"REST": 180.0, "gRPC": 250.0}
"""What Seldon's own CI asks for at one client: mean and p99 latency, requests per second."""
NAMES = {
    "gateway": "**ours, through the gateway**",
    "server": "ours, without the gateway",
    "bare": "the bare limit",
}
_BLOCK = re.compile(
    r"(<!-- begin (?P<name>[a-z-]+) -->\n).*?(<!-- end (?P=name) -->)", flags=re.DOTALL
)

Table = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Spread:
    """Some runs of the same thing."""

    median: float
    least: float
    most: float
    runs: int


def spread(values: Sequence[float]) -> Spread:
    """Return the median of values, with the smallest and the largest."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def shown(values: Sequence[float], form: str = ".1f") -> str:
    """Return `median (smallest–largest)`."""
    s = spread(values)
    return f"{s.median:{form}} ({s.least:{form}}–{s.most:{form}})"


def verdict(*, good: bool) -> str:
    """Return the word for a target."""
    return MET if good else MISSED


def table(header: Sequence[str], rows: Table) -> str:
    """Return a Markdown table; the first column is text, the others are aligned to the right."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows])


def fill(page: str, blocks: Mapping[str, str]) -> str:
    """Replace what is between the markers of each block.

    Raises:
        ValueError: the page has no place for a block, or a place for one that is not there.
    """
    places = [match["name"] for match in _BLOCK.finditer(page)]
    if sorted(places) != sorted(blocks):
        raise ValueError(f"the page has places for {places}, there are {sorted(blocks)}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match['name']]}\n{match[3]}", page)


def blocks(results: Mapping[str, Any]) -> dict[str, str]:
    """Return every table of the page by its name."""
    cycle, serving = results["lifecycle"], Serving(results["serving"])
    return {
        "targets": table(("target", "wanted", "measured", "verdict"), list(targets(results))),
        "about": _about(results, serving),
        "life-cycle": _life_cycle(cycle),
        "memory": _memory(cycle["memory"]),
        "assets": _assets(cycle["assets"]),
        "one-client": serving.table(1),
        "many-clients": serving.table(32),
        "ratios": serving.ratios(),
        "profile": serving.profile(),
        "batching": _batching(results["batching"]),
    }


def targets(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (what, wanted, measured, verdict) for every target."""
    seconds = results["lifecycle"]["seconds"]
    for measure, (name, most) in TARGETS.items():
        if most is not None:
            median = statistics.median(seconds[measure])
            yield name, f"≤ {most:g} s", f"{median:.1f} s", verdict(good=median <= most)
    total = _total(results["lifecycle"]["memory"])
    good = total <= MOST_MEMORY
    yield "All processes at rest", f"≤ {MOST_MEMORY} GB", f"{total:.2f} GB", verdict(good=good)
    serving = Serving(results["serving"])
    yield from serving.gates()
    yield from serving.comparisons()


def verdicts(results: Mapping[str, Any]) -> str:
    """Return the targets as lines for a terminal."""
    lines = [
        f"{verdict:<10} {what}: {seen} ({wanted})"
        for what, wanted, seen, verdict in targets(results)
    ]
    return "\n".join(lines).replace("*", " ").replace("`", "")


class Serving:
    """The part of the results about requests."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.generators: Mapping[str, str] = results["generators"]
        self._points = results["points"]
        self._profiles = results["profiles"]
        self.protocols = list(dict.fromkeys(point["protocol"] for point in self._points))

    def values(self, server: str, protocol: str, clients: int, what: str) -> list[float]:
        """Return a value of every round; empty where this was not measured."""
        wanted = (server, protocol, clients)
        return [
            float(values[what])
            for point in self._points
            if (point["server"], point["protocol"], point["clients"]) == wanted
            for values in point["rounds"]
        ]

    def servers(self, protocol: str) -> list[str]:
        """Return the servers that were asked by a protocol."""
        return list(dict.fromkeys(p["server"] for p in self._points if p["protocol"] == protocol))

    def table(self, clients: int) -> str:
        """Return everything that was measured at a number of clients."""
        header = (
            *("protocol", "server", "requests/s", "mean ms", "p50 ms", "p99 ms", "errors"),
            *("server CPU ms/request", "generator CPU"),
        )
        rows = []
        for protocol in sorted(self.protocols, reverse=True):
            for server in self.servers(protocol):
                rows.append(
                    (protocol, NAMES.get(server, server), *self._row(server, protocol, clients))
                )
        return table(header, rows)

    def _row(self, server: str, protocol: str, clients: int) -> Iterator[str]:
        def values(what: str) -> list[float]:
            return self.values(server, protocol, clients, what)

        yield shown(values("requests_per_second"), ".0f")
        for what in ("mean", "p50", "p99"):
            yield shown(values(what), ".2f")
        yield f"{sum(values('errors')):.0f}"
        yield f"{statistics.median(values('server_cpu_ms')):.2f}"
        yield f"{statistics.median(values('generator_cpu')):.0%}"

    def gates(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the gates of Seldon's CI."""
        for transport, least in LEAST_REQUESTS.items():
            protocol = f"{transport} Seldon"
            for what, form, wanted, reaches in _gates(least):
                median = statistics.median(self.values("gateway", protocol, 1, what))
                seen = form.format(median)
                yield (
                    f"{protocol}, 1 client, {_WORDS[what]}",
                    wanted,
                    seen,
                    verdict(good=reaches(median)),
                )

    def comparisons(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the targets that compare with others."""
        for protocol, clients in self._compared():
            what = f"{protocol}, {_clients(clients)}"
            _, ratios = self.beside_mlserver(protocol, clients)
            median = statistics.median(ratios)
            good = median >= LEAST_THROUGHPUT
            wanted = f"≥ {LEAST_THROUGHPUT} × MLServer"
            yield f"{what}, throughput", wanted, f"{median:.2f} ×", verdict(good=good)
            median = statistics.median(self.beside_bare(protocol, clients, transport="REST"))
            wanted = f"≤ {MOST_LATENCY} × bare ASGI"
            good = median <= MOST_LATENCY
            yield f"{what}, p50", wanted, f"{median:.2f} ×", verdict(good=good)

    def ratios(self) -> str:
        """Return the comparisons with their spread."""
        header = (
            *("protocol", "clients", "throughput ÷ MLServer's", "faster MLServer"),
            *("p50 ÷ bare ASGI's", "p50 ÷ bare gRPC's"),
        )
        rows = []
        for protocol, clients in self._compared():
            peer, ratios = self.beside_mlserver(protocol, clients)
            by_grpc = (
                shown(self.beside_bare(protocol, clients, transport="gRPC"), ".2f")
                if protocol.startswith("gRPC")
                else ""
            )
            by_rest = shown(self.beside_bare(protocol, clients, transport="REST"), ".2f")
            rows.append((protocol, str(clients), shown(ratios, ".2f"), peer, by_rest, by_grpc))
        return table(header, rows)

    def _compared(self) -> Iterator[tuple[str, int]]:
        for protocol in sorted(self.protocols, reverse=True):
            for clients in sorted({point["clients"] for point in self._points}):
                yield protocol, clients

    def beside_mlserver(self, protocol: str, clients: int) -> tuple[str, list[float]]:
        """Return the faster of MLServer's set-ups, and how much more we answer in each round."""
        transport = protocol.split()[0]
        rates = {
            name: self.values(name, f"{transport} V2", clients, "requests_per_second")
            for name in self.servers(f"{transport} V2")
            if name.startswith("MLServer")
        }
        peer = max(rates, key=lambda name: statistics.median(rates[name]))
        ours = self.values("gateway", protocol, clients, "requests_per_second")
        return peer, [a / b for a, b in zip(ours, rates[peer], strict=True)]

    def beside_bare(self, protocol: str, clients: int, *, transport: str) -> list[float]:
        """Return how often the bare limit's median latency is in ours, in each round."""
        ours = self.values("gateway", protocol, clients, "p50")
        bare = self.values("bare", f"{transport} Seldon", clients, "p50")
        return [a / b for a, b in zip(ours, bare, strict=True)]

    def profile(self) -> str:
        """Return the shares of the model server's time, or why there are none."""
        refused = [profile["refused"] for profile in self._profiles if profile["refused"]]
        if refused:
            return f"py-spy could not look into the model server: {refused[0]}\n"
        if not self._profiles:
            return "No profile was taken.\n"
        names = sorted({area for profile in self._profiles for area in profile["areas"]})
        rows = []
        for area in names:
            shares = [p["areas"].get(area, 0) / sum(p["areas"].values()) for p in self._profiles]
            rows.append((area, *(f"{share:.0%}" for share in shares)))
        return table(("where", *(p["protocol"] for p in self._profiles)), rows)


_WORDS = {"requests_per_second": "requests", "mean": "mean", "p99": "p99"}
Reaches = Callable[[float], bool]


def _gates(least: float) -> Iterator[tuple[str, str, str, Reaches]]:
    """Yield (value, how to write it, what is wanted, whether a value reaches it)."""
    yield "requests_per_second", "{:.0f}/s", f"> {least:.0f}/s", lambda value: value > least
    for what in ("mean", "p99"):
        wanted = f"< {MOST_MILLISECONDS:.0f} ms"
        yield what, "{:.2f} ms", wanted, lambda value: value < MOST_MILLISECONDS


def _about(results: Mapping[str, Any], serving: Serving) -> str:
    machine, versions = results["machine"], results["versions"]
    listed = {
        name: ", ".join(f"{library} {version}" for library, version in versions[name].items())
        for name in ("libraries", "peers")
    }
    rows = [
        ("command", f"`{results['command']}`"),
        ("commit", results["commit"]),
        ("time", results["started"]),
        ("processors", f"{machine['processors']} × {machine['processor']}"),
        ("memory", f"{machine['memory_bytes'] / GIGABYTE:.1f} GB"),
        ("system", machine["system"]),
        ("load average before", f"{machine['load_before']:.2f}"),
        ("Python", versions["python"]),
        ("ours", listed["libraries"]),
        ("MLServer's environment", listed["peers"]),
        ("load", ", ".join(f"{k}: {v}" for k, v in serving.generators.items())),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in [("", ""), ("---", "---"), *rows])


def _life_cycle(cycle: Mapping[str, Any]) -> str:
    rows = []
    for measure, (name, most) in TARGETS.items():
        s = spread(cycle["seconds"][measure])
        wanted = "" if most is None else f"≤ {most:g}"
        good = "" if most is None else verdict(good=s.median <= most)
        rows.append(
            (name, f"{s.median:.1f}", f"{s.least:.1f}–{s.most:.1f}", str(s.runs), wanted, good)
        )
    return table(("seconds", "median", "spread", "runs", "target", "verdict"), rows)


def _memory(memory: Mapping[str, Any]) -> str:
    parts = sorted(memory["parts"].items(), key=lambda part: -part[1])
    rows = [(name, f"{size / GIGABYTE:.2f}") for name, size in parts]
    rows.append(("**together**", f"**{_total(memory):.2f}**"))
    return table(("process", f"GB ({memory['kind']})"), rows)


def _total(memory: Mapping[str, Any]) -> float:
    return float(sum(memory["parts"].values()) / GIGABYTE)


def _assets(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return the median seconds of each asset, its checks added, in each kind of run."""
    columns = {
        kind: _medians([_with_checks(run) for run in of_kind]) for kind, of_kind in runs.items()
    }
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    rows = [
        (name, *(f"{column[name]:.1f}" if name in column else "" for column in columns.values()))
        for name in names
    ]
    rows.append(
        ("**together**", *(f"**{sum(column.values()):.1f}**" for column in columns.values()))
    )
    return table(("asset, with its checks", *columns), rows)


def _batching(results: Mapping[str, Any]) -> str:
    """Return what batching does to every protocol; the ratio is taken within each round."""
    header = (
        *("protocol", "clients", "requests/s, no batching", "requests/s, batching", "ratio"),
        *("p50 ms, no batching", "p50 ms, batching", "requests a call"),
    )
    found = {(p["server"], p["protocol"], p["clients"]): p["rounds"] for p in results["points"]}

    def values(server: str, protocol: str, clients: int, what: str) -> list[float]:
        return [float(one[what]) for one in found[server, protocol, clients]]

    rows = []
    ours = [p for p in results["points"] if p["server"] == batching.TOGETHER]
    places = [(p["protocol"], p["clients"]) for p in ours]
    for protocol, clients in places:
        both = [
            {what: values(name, protocol, clients, what) for what in ("requests_per_second", "p50")}
            for name in (batching.ALONE, batching.TOGETHER)
        ]
        rates = [one["requests_per_second"] for one in both]
        ratios = [together / alone for alone, together in zip(*rates, strict=True)]
        batch = statistics.median(values(batching.TOGETHER, protocol, clients, "batch"))
        row = [protocol, str(clients), *(shown(rate, ".0f") for rate in rates)]
        row += [shown(ratios, ".2f"), *(shown(one["p50"], ".2f") for one in both), f"{batch:.1f}"]
        rows.append(row)
    echo = {
        clients: shown(values(batching.ECHO, batching.GRPC, clients, "requests_per_second"), ".0f")
        for clients in batching.CLIENTS
    }
    limits = "; ".join(f"{rate} with {_clients(int(clients))}" for clients, rate in echo.items())
    was_measured = any(p["server"] == batching.BENTOML for p in results["points"])
    beside = _beside_bentoml(values) if was_measured else ""
    return (
        f"{table(header, rows)}\n{beside}The limit of grpcio, a server that answers every call "
        f"with ready bytes, in requests/s: {limits}.\n\nMeasured at {results['started']} with "
        f"commit {results['commit']}, at a load average of {results['load']:.2f} before.\n"
    )


def _beside_bentoml(values: Callable[[str, str, int, str], list[float]]) -> str:
    """Return how BentoML answers the same rows in JSON; the ratio is taken within each round."""
    header = ("clients", "BentoML, requests/s", "ours, requests/s", "ratio", "BentoML, p50 ms")
    rows = []
    for clients in batching.CLIENTS:
        theirs, ours = (
            values(server, batching.JSON, clients, "requests_per_second")
            for server in (batching.BENTOML, batching.TOGETHER)
        )
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        p50 = values(batching.BENTOML, batching.JSON, clients, "p50")
        rates = [shown(theirs, ".0f"), shown(ours, ".0f"), shown(ratios, ".2f")]
        rows.append([str(clients), *rates, shown(p50, ".2f")])
    return f"The same rows beside BentoML, both with batching, in JSON:\n\n{table(header, rows)}\n"


def _with_checks(run: Mapping[str, float]) -> dict[str, float]:
    added: dict[str, float] = {}
    for step, seconds in run.items():
        name = step.removesuffix("/checks").removesuffix("_checks")
        added[name] = added.get(name, 0.0) + seconds
    return added


def _clients(count: int) -> str:
    return f"{count} client{'s' if count > 1 else ''}"


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}
