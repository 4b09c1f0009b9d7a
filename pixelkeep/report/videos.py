"""How videos and streams went by, in lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def video_words(name: str, video: Mapping[str, Any], fps: float | None) -> str:
    """Return what is to be said of a video: what was skipped, and what is wrong with it; empty where it is nothing.

    Args:
        name: Its file.
        video: As the summary of detect has it.
        fps: Frames a second that were to be got through.
    """
    told = []
    if fps is not None:
        told.append(f"{video['frames']} frames looked at, {video['skipped']} skipped")
    if "tiles" in video:
        looked, skipped = video["tiles_looked_at"], video["tiles_skipped"]
        told.append(f"{looked} of their {looked + skipped} tiles")
        frames, seconds = video["longest_unseen_frames"], video["longest_unseen_s"]
        told.append(f"each again after {frames} frames at most ({seconds:.2f} s)" if skipped else "none skipped")
    if video["lost"]:
        told.append(f"lost and opened again {video['lost']} times")
    if video["damage"]:
        told.append(video["damage"])
    return f"{Path(name).name}: {', '.join(told)}" if told else ""
