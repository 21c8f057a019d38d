"""Ways take turns, and their table and figure."""

import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def seconds_used() -> float:
    """Return a time to take differences of: an accelerator's clock, or what processors worked for this process.

    The latter counts the processes that it started, once they have ended, and not what else the machine does.
    """
    import torch
    from torch.utils.benchmark.utils.timer import timer  # waits for an accelerator, too

    if torch.accelerator.is_available():
        return timer()
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def take_turns(works: Sequence[Callable[[], Any]], repetitions: int) -> np.ndarray:
    """Return the seconds (works, repetitions) of what is done in turns, each once before that does not count."""
    from transformers import set_seed

    for work in works:
        work()
    seconds = np.zeros((len(works), repetitions))
    for repetition in range(repetitions):
        # Whoever comes second may find a warmer machine.
        for index in sorted(range(len(works)), reverse=bool(repetition % 2)):
            set_seed(repetition)  # by chance, layers of an encoder are left out: the same of all ways
            started = seconds_used()
            works[index]()
            seconds[index, repetition] = seconds_used() - started
    return seconds


def describe(part: str, task: str, ways: Sequence[str], seconds: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield a record of each way: seconds, and the ratio to the last way, turn by turn."""
    for way, times in zip(ways, seconds, strict=True):
        low, median, high = np.quantile(times / seconds[-1], [0.25, 0.5, 0.75])
        yield {
            "part": part,
            "task": task,
            "way": way,
            "seconds": {"median": np.median(times), "std": times.std(ddof=1)},
            "ratio": {"median": median, "low": low, "high": high},
        }


def costliest(work: Callable[[], Any], count: int = 10) -> dict[str, float]:
    """Return the operations that a way spends most of its time in, each with its share."""
    from torch.profiler import profile

    with profile() as profiler:
        work()
    averages = profiler.key_averages()
    whole = sum(each.self_cpu_time_total for each in averages)
    found = sorted(averages, key=lambda each: -each.self_cpu_time_total)[:count]
    return {each.key: each.self_cpu_time_total / whole for each in found}


def to_markdown(records: Sequence[Mapping[str, Any]], heading: str) -> str:
    """Return the table in Markdown; after it, what could not be run, and the costliest operations."""
    from trainer.evaluation.summary import markdown_table

    lines, notes = [], []
    for record in records:
        what = f"{record['task']}: {record['way']}"
        if "why_not" in record:
            notes.append(f"* {what}: not run ({record['why_not']})")
            continue
        ratio, times, peak = record["ratio"], record["seconds"], record.get("peak")
        shown = f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        memory = "" if peak is None else f"{peak:.2f}"
        places = (record[name] for name in ("part", "task", "way"))
        lines.append([*places, shown, f"{times['median']:.3f} ± {times['std']:.3f}", memory])
        if "costliest" in record:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in record["costliest"].items())
            notes.append(f"* {what}: {shares}")
    header = ["part", "task", "way", "ratio, median [quartiles]", "s, median ± std", "peak memory, GB"]
    return "\n\n".join([heading, markdown_table(header, lines), *["\n".join(notes)] * bool(notes)]) + "\n"


def draw(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a figure of the ratios, a line for each way that is not what others are compared to."""
    from matplotlib.figure import Figure

    from trainer.evaluation.drawing import save_figure

    tasks = [record["task"] for record in records if "ratio" in record]
    shown = [each for each in records if "ratio" in each]
    last = {task: len(tasks) - 1 - tasks[::-1].index(task) for task in tasks}
    shown = [each for place, each in enumerate(shown) if place != last[each["task"]]][::-1]
    if not shown:
        return
    figure = Figure(figsize=(7, 1 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    low, middle, high = (np.array([each["ratio"][name] for each in shown]) for name in ("low", "median", "high"))
    places = np.arange(len(shown))
    axes.barh(places, middle, xerr=[middle - low, high - middle], color="#4477aa", height=0.6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(places, [f"{each['task']}: {each['way']}" for each in shown], fontsize=8)
    axes.set_xlabel("time over the last way's of the task, median and quartiles")
    save_figure(figure, path)
