"""Describes in words how videos and streams were processed, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def video_words(name: str, video: Mapping[str, Any], fps: float | None) -> str:
    """Return a line on a video: what was skipped, and what is wrong with it; empty if there is nothing to say.

    Args:
        name: File of the video.
        video: Entry of the video in the summary of detect.
        fps: Frames per second that detect was asked to keep up with; None if there was no such rate.
    """
    told = []
    if fps is not None:
        told.append(f"{video['frames']} frames looked at, {video['skipped']} skipped")
    if "tiles" in video:
        looked, skipped = video["tiles_looked_at"], video["tiles_skipped"]
        told.append(f"{looked} of their {looked + skipped} tiles")
        frames, seconds = video["longest_unseen_frames"], video["longest_unseen_s"]
        told.append(f"each looked at again within {frames} frames ({seconds:.2f} s)" if skipped else "none skipped")
    if video["lost"]:
        told.append(f"lost and opened again {video['lost']} times")
    if video["damage"]:
        told.append(video["damage"])
    return f"{Path(name).name}: {', '.join(told)}" if told else ""
