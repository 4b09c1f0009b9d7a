"""Reports the rewriting of a checkpoint to another format, as a table and as a document."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """The report on a checkpoint that was rewritten to another format.

    Attributes:
        model: Name of the model.
        task: Task of the model.
        weights: Source file.
        output: File that was written.
        format: Format of the written file, ``safetensors`` or ``pt``.
        precision: Types of the floating-point numbers in the file, the most common first.
        tensors: Number of tensors in the file.
        parameters: Number of parameters in the file.
        blocks: Version of each of this project's blocks in the network, by name.
        megabytes: Size of the written file in megabytes.
        sha256: SHA-256 of the written file.
        left_out: Contents of the source that were not written.
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
    """Return the report as text, at most 80 columns wide."""
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
