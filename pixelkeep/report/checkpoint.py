"""What a checkpoint was rewritten to, as a table and as a document."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """A checkpoint in another form.

    Attributes:
        model, task: What its network is, and is for.
        weights, output: From which file, and to which.
        format: safetensors or pt.
        precision: The types of its floating-point numbers, the commonest first.
        tensors, parameters: How many it holds.
        blocks: Version of each of our blocks in it.
        megabytes: The size of the file; ``sha256``: of its bytes.
        left_out: What the source holds besides.
    """

    model: str
    task: str
    weights: str
    output: str
    format: str
    precision: str
    tensors: int
    parameters: int
    blocks: dict[str, int]
    megabytes: float
    sha256: str
    left_out: list[str]

    def to_dict(self) -> dict:
        """Return the document that ``--json`` prints."""
        return {"schema": 1, **asdict(self)}


def checkpoint_table(report: Rewritten) -> str:
    """Return the report at most 80 columns wide."""
    rows = {
        "task": report.task,
        "numbers": report.precision,
        "tensors": f"{report.tensors:,}; {report.parameters:,} parameters",
        "blocks": ", ".join(f"{name} {version}" for name, version in report.blocks.items()) or "Ultralytics' own",
        "size": f"{report.megabytes:.2f} MB",
        "sha256": report.sha256,
    }
    lines = [f"{key:<10}{value}" for key, value in rows.items()]
    return "\n".join([f"{report.model} to {report.format}, read back and compared", "", *lines])
