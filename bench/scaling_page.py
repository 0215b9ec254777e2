"""Scaling page: the tables of `scaling.py`, and the section of docs/performance.md that it writes.  Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from bench.peer_results import table
from bench.scaling_figures import (
    KINDS,
    LARGE_GET,
    LARGE_PUT,
    MANY,
    NODE_BYTES_PER_S,
    ONE_BY_ONE,
    SMALL_SIZE,
    Found,
    Sample,
    kinds_measured,
    movers_of,
    surroundings_of,
    workloads_of,
)
from bench.scaling_model import NODE_COUNTS, SECOND_US, full_resource, knee, node_rate, project
from warehouse.catalog.writer import BATCH_MAX

PLOT = "nodes.svg"
WIDTH = 118
BEGIN = "<!-- Several volume actors, and many nodes: written by bench/scaling.py; change it there. -->"
END = "<!-- Several volume actors, and many nodes: end. -->"


def with_section(page: str, section: str) -> str:
    """The page with the section between its two marks, or behind all else when it has none yet.

    Raises:
        ValueError: the page has one mark without the other, or a mark twice.
    """
    counts = page.count(BEGIN), page.count(END)
    block = f"{BEGIN}\n{section.strip()}\n{END}\n"
    if counts == (0, 0):
        return f"{page.rstrip()}\n\n{block}" if page.strip() else f"# Performance\n\n{block}"
    if counts != (1, 1) or page.index(BEGIN) > page.index(END):
        raise ValueError(f"the page should have {BEGIN!r} and {END!r} behind it once each; it has {counts}")
    before, _, rest = page.partition(BEGIN)
    return before + block + rest.partition(END)[2].removeprefix("\n")


# --- tables ---------------------------------------------------------------------------------------

GROWTH_COLUMNS = (
    "",
    "one actor, a second",
    "two actors",
    "two to one",
    "client us",
    "volume us",
    "master us",
    "cores busy",
    "full",
)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def growth_rows(found: Found, share: float | None, cores: int) -> list[list[str]]:
    rows = []
    for kind in kinds_measured(found, share):
        one, two = found.samples[kind, 1, share], found.samples[kind, 2, share]
        both = (one, 1), (two, 2)
        full = [full_name(sample, actors, share, cores) for sample, actors in both]
        rows.append(
            [
                kind,
                number(one.rate),
                number(two.rate),
                f"**{found.ratios[kind, share]:.2f}**",
                f"{number(one.client_us)} / {number(two.client_us)}",
                f"{number(one.volume_us)} / {number(two.volume_us)}",
                f"{number(one.master_us)} / {number(two.master_us)}",
                f"{one.machine_busy:.1f} / {two.machine_busy:.1f}",
                full[0] if full[0] == full[1] else " / ".join(full),
            ]
        )
    return rows


def full_name(sample: Sample, actors: int, share: float | None, cores: int) -> str:
    return full_resource(
        cores=cores,
        machine_busy=sample.machine_busy,
        actors=actors,
        volume_busy=sample.cores(sample.volume_us),
        master_busy=sample.cores(sample.master_us),
        clients=sample.clients,
        client_busy=sample.cores(sample.client_us),
        share=share,
    )


WANTED_COLUMNS = ("", "two actors, a second", "cores for that", "full then")


def wanted_rows(found: Found) -> list[list[str]]:
    """What two actors would do with cores enough, by the processor time that was measured."""
    rows = []
    for kind in kinds_measured(found, None):
        if kind in (LARGE_PUT, LARGE_GET):
            continue  # more than a disk can do, long before the processor is full
        two = found.samples[kind, 2, None]
        rate, full = two.with_cores(2)
        rows.append([kind, number(rate), f"{rate * two.all_us / SECOND_US:.1f}", full])
    return rows


MODEL_COLUMNS = ("", "volume us", "master us", "a node, a second", "the master", "knee, nodes")


def model_rows(found: Found) -> list[list[str]]:
    around = surroundings_of(found)
    rows = []
    for workload in workloads_of(found):
        edge = knee(workload, around)
        rows.append(
            [
                workload.name,
                number(workload.volume_us),
                number(workload.master_us) if workload.master_us else "not asked",
                number(node_rate(workload, around)),
                number(SECOND_US / workload.master_us) if workload.master_us else "",
                "none" if edge == float("inf") else number(edge),
            ]
        )
    return rows


def projection_rows(found: Found) -> list[list[str]]:
    """Operations a second by number of nodes; in bold where the nodes could do more than the master."""
    around = surroundings_of(found)
    rows = []
    for workload in workloads_of(found):
        row = [workload.name]
        for nodes in NODE_COUNTS:
            at = project(workload, nodes, around)
            row.append(number(at.rate) if at.limit == "nodes" else f"**{number(at.rate)}**")
        rows.append(row)
    return rows


def mover_rows(found: Found) -> list[list[str]]:
    return [
        [
            mover.name,
            number(mover.before_us),
            number(mover.after_us) if mover.after_us else "not asked",
            number(mover.factor) if mover.after_us else "",
        ]
        for mover in movers_of(found)
    ]


def plot_lines(found: Found) -> list[dict[str, Any]]:
    """For each workload of small objects: rates by number of nodes."""
    around = surroundings_of(found)
    counts = list(range(1, NODE_COUNTS[-1] + 1))
    return [
        {
            "name": workload.name.replace("`", ""),
            "nodes": counts,
            "rates": [project(workload, nodes, around).rate for nodes in counts],
        }
        for workload in workloads_of(found)
        if workload.size == SMALL_SIZE
    ]


def tables(found: Found, facts: Mapping[str, Any]) -> str:
    """All tables, for a terminal."""
    parts = ["As the machine is:", table(GROWTH_COLUMNS, growth_rows(found, None, facts["cores"]))]
    if found.share is not None:
        rows = growth_rows(found, found.share, facts["cores"])
        parts += [f"Each actor is held to {found.share:g} of a core:", table(GROWTH_COLUMNS, rows)]
    parts += [
        "With cores enough (arithmetic):",
        table(WANTED_COLUMNS, wanted_rows(found)),
        "The model:",
        table(MODEL_COLUMNS, model_rows(found)),
        table(("nodes", *map(str, NODE_COUNTS)), projection_rows(found)),
        table(("", "us before", "us after", "factor"), mover_rows(found)),
        wrapped(idle_text(found)),
    ]
    return "\n".join(parts)


# --- the section ----------------------------------------------------------------------------------

SECTION = """\
## Several volume actors, and many nodes

    python bench/scaling.py {options}--markdown docs/performance.md

Made by that command on {date}, on {machine}. Others used {others:.1f} of its cores before it began. Medians
of {rounds} rounds of {seconds:g} s, in which a store with one volume actor and one with two took turns.
Puts are synced. Of large objects it is the best round, because a virtual machine that is handed fresh
memory meanwhile spends far more on them.

### From one volume actor to two

{growth}
*Two to one* is the median of the rounds' own ratios, so that a slow minute hits both; it need not be the
quotient of the two columns before it. Processor time is for one object, with one actor and with two;
*client* is all client processes, or `wrk` at the data port. Of 1 to 3 client processes there are as many
as get the most out of two actors ({processes}), and two for large objects. Cores busy are those of the
whole machine, whoever used them. *Full* is what had nothing left: all cores, the actors' own, the
master's, the clients'; *waiting* means none of these, so that everybody waited for the disk or for each
other's answers. Both actors' directories are on one disk, which both of them sync.

{growth_text} The actors share no lock, no file and no thread, only the master and here the disk. What two
of them cost is smaller batches: the same clients ask both stores, so each of two actors has half as many
requests in hand, fewer of them share a sync, a message or a batch, and an object takes more processor time.

{held}What two actors would do with as many cores as it takes, by the processor time above. **This is
arithmetic, not a measurement**: a machine with so many cores is expected to come near these rates as long
as its disks sync fast enough, because the processes do not wait for each other's locks. Where it says
*master*, a second actor is already more than one master can serve. Objects of 80 MiB are not in it: there
the disks are the limit.

{wanted}
### From 2 nodes to 100, on paper

A node is a machine with one disk, its volume actor on a core of its own, and a network port of {port:g}
Gbit/s (assumed). Nodes share nothing but the master, which is one process, and so one core. `project` in
`bench/scaling_model.py` is the whole model: nodes do what their actors can, until together they ask for
more than that core has. The **knee** is the number of nodes that keeps it just busy; more of them add room,
and bandwidth, but no operations of this kind. Clients are machines of their own, as many as it takes.
Nothing in this part was measured on more than one machine.

What an actor spends is from the store with one actor above. What the master spends is from a master alone
with 50,000 objects (`bench/master_rate.py`), whose keys are scattered over 1,000 folders; clients that put
in the order of their keys, as above, cost it less. For objects of 80 MiB it is from the store. *Each
alone*: every put is the only one of its actor at that moment. That is the dearest case; an actor that has
several sends them in one message, and the more wait for the master, the more there are in each.

{model}
Operations a second by number of nodes; bold where the master is the limit:

{projection}
{plot}{limit_text}

### What moves the master's limit

Microseconds of the master for one object (in the last row: for a GiB of them):

{movers}
- **A faster core** moves every limit in proportion: the master is one Python process. SQLite works in a
  thread beside it, without the interpreter's lock, so a second core helps a little; that is not counted
  here.
- **The disk of the master** is not the limit. One fdatasync took {sync_ms:.2f} ms here, so there are
  {syncs} transactions a second at most; but whoever asks while one is written travels in the next, up to
  {batch} messages. A slower disk makes larger transactions and longer waits, and that wait is the rate of a
  client that has one put under way at a time.
- **What does not move it:** more volume actors, more disks, more clients, a faster network, larger volumes.
  They add to what the nodes can do, so the knee comes earlier.
- Beyond that it takes more than one master: buckets divided among several catalogs. There is no such thing
  yet.

### What 100 nodes cost that do nothing

{idle}
"""


def section(found: Found, facts: Mapping[str, Any], *, plot: str | None) -> str:
    """The section as Markdown.

    Args:
        facts: date, machine, cores, others, rounds, seconds, options.
        plot: path of the picture, as the page links it.
    """
    text = SECTION.format(
        **facts,
        growth=table(GROWTH_COLUMNS, growth_rows(found, None, facts["cores"])),
        processes=processes_text(found),
        growth_text=growth_text(found, facts["cores"]),
        held=held_text(found, facts["cores"]),
        wanted=table(WANTED_COLUMNS, wanted_rows(found)),
        port=NODE_BYTES_PER_S * 8 / 1e9,
        model=table(MODEL_COLUMNS, model_rows(found)),
        projection=table(("nodes", *map(str, NODE_COUNTS)), projection_rows(found)),
        plot=f"![rates of small objects by number of nodes]({plot})\n\n" if plot else "",
        limit_text=limit_text(found),
        movers=table(("", "before", "after", "factor"), mover_rows(found)),
        sync_ms=found.sync_s * 1e3,
        syncs=number(1 / found.sync_s),
        batch=f"{BATCH_MAX:,}",
        idle=idle_text(found),
    )
    return wrapped(text)


def wrapped(text: str) -> str:
    """The text with its paragraphs filled anew: figures that were put in make lines uneven."""
    blocks = text.split("\n\n")
    return "\n\n".join(
        block
        if block.lstrip("\n").startswith(("|", "#", " ", "-", "!"))
        else textwrap.fill(block, WIDTH, break_long_words=False, break_on_hyphens=False)
        for block in blocks
    )


def processes_text(found: Found) -> str:
    kinds = [kind for kind in KINDS if kind.way in (ONE_BY_ONE, MANY)]
    return ", ".join(f"{kind.name}: {found.process_counts[kind.name]}" for kind in kinds)


def growth_text(found: Found, cores: int) -> str:
    """What one actor left for a second one, and what that made of it."""
    kinds = kinds_measured(found, None)
    busy = [found.samples[kind, 1, None].machine_busy for kind in kinds]
    ratios = [found.ratios[kind, None] for kind in kinds]
    return (
        f"One actor, its master and its clients keep {min(busy):.1f} to {max(busy):.1f} of the {cores} cores"
        f" busy. A second actor can only add what they leave, and two of them do **{min(ratios):.2f} to"
        f" {max(ratios):.2f} times** what one does."
    )


HELD = """\
The same with every volume actor held to {share:g} of a core (a control group with a quota) and as many
clients for each of two as for one, so that the actors are the limit again while master, clients and disk
have room, as on a machine with more cores:

{rows}
So two actors do {least:.2f} to {most:.2f} times what one does, when it is their processor that counts: less
than twice where the requests of a client are divided between the two, so that fewer share one and each
costs more (*volume us*).

"""


def held_text(found: Found, cores: int) -> str:
    if found.share is None:
        return ""
    ratios = [found.ratios[kind, found.share] for kind in kinds_measured(found, found.share)]
    rows = table(GROWTH_COLUMNS, growth_rows(found, found.share, cores))
    return HELD.format(share=found.share, rows=rows, least=min(ratios), most=max(ratios))


def limit_text(found: Found) -> str:
    """The knees in words: where the master gets in the way, and where it does not."""
    around = surroundings_of(found)
    edges = {workload: knee(workload, around) for workload in workloads_of(found)}
    asked = {workload: edge for workload, edge in edges.items() if edge < float("inf")}
    small = {workload: edge for workload, edge in asked.items() if workload.size == SMALL_SIZE}
    rates = sorted(SECOND_US / workload.master_us for workload in small)
    text = (
        "**For small objects that the master is asked about, it is busy with the actors of"
        f" {number(min(small.values()))} to {number(max(small.values()))} nodes**, at {number(rates[0])} to"
        f" {number(rates[-1])} of them a second. That is the rate of the store: nodes beyond that bring room"
        " for more objects, not more of these operations."
    )
    for workload, edge in asked.items():
        if workload.size != SMALL_SIZE:
            text += f" With {workload.name} it is busy with {number(edge)} nodes."
    free = [workload.name for workload, edge in edges.items() if edge == float("inf")]
    if free:
        text += f" It is never in the way of {_listed(free)}: there every node counts."
    return text


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


IDLE = """\
    python bench/idle_links.py

Measured with links of {disks} disks, that is {links} connections, a volume actor's and a compactor's each:
the master spends {idle_us} us a second on an idle disk (heartbeats each second, a report every ten) and
{report_us} us on each further report; a busy disk reports each second. A disk takes {memory:.0f} KiB of its
memory, and {bytes_per_s} bytes a second on the wire. So 100 idle disks are {idle_percent:.1f} % of the
master's core and 100 busy ones {busy_percent:.1f} %, before anybody asks for anything. {all_memory:.0f} MiB
and {all_bytes:.0f} kB a second are no limit.
"""


def idle_text(found: Found) -> str:
    idle, disks = found.idle, NODE_COUNTS[-1]
    return IDLE.format(
        disks=idle.disks,
        links=2 * idle.disks,
        idle_us=number(idle.idle_us),
        report_us=number(idle.report_us),
        memory=idle.memory / 1024,
        bytes_per_s=number(idle.bytes_per_s),
        idle_percent=100 * disks * idle.idle_us / SECOND_US,
        busy_percent=100 * disks * (idle.idle_us + idle.report_us) / SECOND_US,
        all_memory=disks * idle.memory / 2**20,
        all_bytes=disks * idle.bytes_per_s / 1000,
    )
