"""pixelkeep demo"""

from __future__ import annotations

import typer

from pixelkeep.cli import options as o
from pixelkeep.cli.session import session, show, show_json


def demo(project: o.Project = None, name: o.Name = None, json: o.Json = False, verbose: o.Verbose = False) -> None:
    """Write the demo data, train yolov5-spd-n on it, validate, and detect in pictures and a video."""
    with session(verbose):
        from pixelkeep.experiments.demo import run_demo
        from pixelkeep.report.tables import result_table

        outcome = run_demo(project, name)
    if json:
        show_json(outcome.to_dict())
    else:
        show(f"\n{result_table(outcome.result)}\n\n{outcome.paths()}")


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("demo", epilog="Takes a few minutes on two CPU cores.")(demo)
