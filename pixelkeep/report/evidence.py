"""Writes the progress and the answers of contrasts as text of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixelkeep.report.comparison import interval, percent, signed, spread
from pixelkeep.report.tables import cut, text_table, wrap

_NAME = 20


def as_text(summaries: Sequence[dict], waiting: Mapping[str, str]) -> str:
    """Return the tables and sentences of all contrasts.

    Args:
        summaries: Summaries of the contrasts that have begun; see :mod:`pixelkeep.experiments.summary`.
        waiting: By name, why the other contrasts do not run, such as what they wait for.
    """
    parts = [part for summary in summaries for part in _contrast(summary)]
    parts += [f"{name}: not run, {why}" for name, why in waiting.items()]
    return "\n\n".join(parts)


def _contrast(summary: dict) -> list[str]:
    done, of = summary["trainings"]["done"], summary["trainings"]["of"]
    notice = f"; {summary['notice']}" if summary["notice"] else ""
    title = wrap(f"{summary['contrast']} ({summary['form']}): {done} of {of} trainings{notice}. {summary['question']}")
    parts = [f"{title}\n\n{_arms(summary)}"]
    if summary["answers"]:
        parts.append(_answers(summary))
    parts += [wrap(sentence) for sentence in sentences(summary)]
    return parts


def _arms(summary: dict) -> str:
    rows = []
    for arm in summary["arms"]:
        figures = arm.get(summary["split"])
        times = [seconds for seconds in arm["least_s"] if seconds is not None]
        wall = f"{min(times) / 60:.1f}" if times else ""
        cells = [spread(figures[key]) for key in ("AP", "AP_S")] if figures else ["not run", "not run"]
        gflops = f"{arm['gflops']:.3g}" if arm.get("gflops") else ""
        rows.append([cut(arm["name"], _NAME), f"{arm['seeds']['done']}/{arm['seeds']['of']}", *cells, gflops, wall])
    return text_table([f"on {summary['split']}", "seeds", "AP", "AP_S", "GFLOPs", "min each"], rows)


def _answers(summary: dict) -> str:
    rows = []
    for answer in summary["answers"]:
        verdict = "early" if summary["notice"] else answer["verdict"] or "no verdict"
        names = cut(answer["arm"], _NAME), cut(answer["against"] + (" =" if answer["equal_cost"] else ""), _NAME)
        rows.append([*names, signed(answer["value"]), interval(answer), verdict])
    return text_table(["AP_S of", "less that of", "diff.", "95 % interval", "verdict"], rows, 2, last=True)


def sentences(summary: dict) -> list[str]:
    """Return sentences on the answers of a contrast, on what is missing, and on what it still needs to be done."""
    told = []
    if summary["best"]:
        told.append(f"The best family on dev is {summary['best']}.")
    known = [answer for answer in summary["answers"] if answer["relative"]]
    if known:
        each = [f"{answer['arm']} against {answer['against']} {percent(answer)}" for answer in known]
        told.append(f"Relative difference in AP_S with its 95 % interval: {'; '.join(each)}.")
    if any(answer["equal_cost"] for answer in summary["answers"]):
        told.append("=: at equal cost, against the strongest form of the baseline.")
    if summary["asked"] != summary["split"]:
        why = summary["closed"] or f"{summary['asked']} is scored once everything is trained"
        told.append(f"These are figures on {summary['split']}; {why}.")
    told += gaps(summary)
    if summary["notice"]:
        return [*told, f"{summary['contrast']}: {summary['notice']}."]
    return told + [more for answer in summary["answers"] if (more := needed(answer))] + _state(summary)


def gaps(summary: dict) -> list[str]:
    """Return sentences on arms left out and trainings that failed, with reasons; the others are judged without them."""
    left_out = [f"{arm} is left out: {reason}." for arm, reason in summary["left_out"].items()]
    return left_out + [f"{each['training']} failed, and is missing: {each['reason']}." for each in summary["failed"]]


def needed(answer: dict) -> str | None:
    """Return what an interval still needs to be at most one point to each side; None if it is already."""
    told = f"{answer['arm']} against {answer['against']}"
    if answer["done"]:
        return None
    if answer["images"] is None:
        return f"{told}: no interval yet."
    if answer["images"] > answer["enough"]:
        images = f"the images alone leave ±{answer['images']:.3f}"
        return f"{told}: {images}; no number of seeds brings that to ±{answer['enough']}."
    if answer["half"] is None:
        return f"{told}: with one seed there is no telling how many it takes."
    if answer["seeds"] is None:
        return f"{told}: ±{answer['half']:.3f}; it would take more seeds than are worth training."
    more = f"about {answer['seeds']} seeds of each in all would bring it to ±{answer['enough']}"
    return f"{told}: ±{answer['half']:.3f}; {more}."


def _state(summary: dict) -> list[str]:
    if summary["done"]:
        return [f"{summary['contrast']} is done: every interval is one point of AP_S to each side, or less."]
    missing = summary["trainings"]["of"] - summary["trainings"]["done"] - len(summary["failed"])
    return [f"{summary['contrast']}: {missing} trainings to go; the same command goes on."] if missing else []
