"""Samples into medians with their spread, held against the aims, as Markdown and as JSON."""

import operator
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """One line of the table: samples of ours, beside those of another if there is another, and the aim if any.

    The aim is for the ratio of the medians where there is another, else for our median; `aim` is its text, such as
    `>= 10` or `<= 0.2`.
    """

    what: str
    unit: str
    ours: str
    other: str | None = None
    other_name: str = ""
    aim: str | None = None

    def judge(self, samples: dict[str, list[float]]) -> dict:
        ours = summary(samples[self.ours])
        other = summary(samples[self.other]) if self.other else None
        ratio = ours["median"] / other["median"] if other else None
        judged = ours["median"] if other is None else ratio
        return {
            "what": self.what, "unit": self.unit, "ours": ours, "other_name": self.other_name, "other": other,
            "ratio": ratio, "aim": self.aim, "met": None if self.aim is None else meets(judged, self.aim),
        }  # fmt: skip


def meets(value: float, aim: str) -> bool:
    relation, bound = aim.split()
    return {">=": operator.ge, "<=": operator.le}[relation](value, float(bound))


def summary(values: list[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": values}


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def markdown(lines: list[dict]) -> str:
    """The table; every number is the median of the runs, with the smallest and the largest."""
    rows = ["| what | Augur | against | | ratio | aim | |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        aim, met = "", ""
        if line["aim"] is not None:
            relation, bound = line["aim"].split()
            sign = {">=": "≥", "<=": "≤"}[relation]
            aim = f"{sign} {number(float(bound))}{' ×' if line['other'] else ''}"
            met = "met" if line["met"] else "**missed**"
        ratio = "" if line["ratio"] is None else f"{line['ratio']:.2f} ×"
        other = spread(line["other"]) if line["other"] else ""
        cells = [f"{line['what']}, {line['unit']}", spread(line["ours"]), line["other_name"], other, ratio, aim, met]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def spread(values: dict) -> str:
    return f"{number(values['median'])} ({number(values['min'])}–{number(values['max'])})"


def number(value: float) -> str:
    """Three digits or more, thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
