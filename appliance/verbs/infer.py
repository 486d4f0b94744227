"""`prime-spark infer`: files in, findings out, as text, JSON, or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from appliance.core.printable import printable
from appliance.errors import ApplianceError, InferenceError, NotFoundError
from appliance.screens.glyphs import Colours
from appliance.session.caps import caps_of
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.forms import Command

TASKS = ("detection", "classification", "pose", "segmentation", "audio", "embedding")
SEEN = 0.3
"""Score from which a point of a pose is counted as seen; as on the page."""
PRIORITIES = ("critical", "high", "normal", "low")


@click.command("infer", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--model", default="", help="NAME, or NAME@VERSION; the one that serves where it is not given.")
@click.option("--task", type=click.Choice(TASKS), default=None, help="Which task's model, where none is named.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=None, help="Lowest score that is reported.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="high", help="Whose turn it is. Default: high.")
@click.option("--show/--no-show", default=None, help="Draw each picture with its boxes (default: on a terminal).")
@json_option
@pass_context
def infer(
    context: Context, files: tuple[str, ...], model: str, task: str | None, threshold: float | None, priority: str,
    show: bool | None, as_json: bool,
) -> None:  # fmt: skip
    """Run a model on pictures or recordings."""
    paths = [str(Path(file).expanduser().absolute()) for file in files]
    wanted: dict[str, Any] = {"paths": paths, "model": model, "task": task or "", "priority": priority}
    if threshold is not None:
        wanted["threshold"] = threshold
    job = context.client.invoke("inference.run", wanted)
    done = context.client.invoke("job.wait", {"job_id": job["job_id"]})
    outcomes = done["result"] or [{"path": ", ".join(paths), **_reason(done["error"] or f"The job is {done['state']}.")}]
    failed = [outcome for outcome in outcomes if "error" in outcome]
    if as_json:
        context.json(outcomes)
    elif failed != outcomes or len(outcomes) > 1:
        for outcome in outcomes:
            _say_outcome(context, outcome, draw=context.colour if show is None else show)
    if failed and len(outcomes) == 1:
        raise InferenceError(failed[0]["error"], failed[0]["next_step"])
    if failed:
        raise InferenceError(
            f"{len(failed)} of {len(outcomes)} files gave no result.", "the lines above say why, and what to do."
        )


def _reason(told: str) -> dict[str, str]:
    """A job's error as what happened and what to do next."""
    message, _, next_step = told.partition(" Next: ")
    return {"error": message, "next_step": next_step}


def _say_outcome(context: Context, outcome: dict[str, Any], *, draw: bool) -> None:
    if "error" in outcome:
        where = "" if outcome["path"] in outcome["error"] else f"{outcome['path']}: "
        context.say(printable(f"{where}{ApplianceError(outcome['error'], outcome.get('next_step', ''))}", keep="\n"))
        return
    result = outcome["result"]
    context.say(f"{printable(outcome['path'])}: {head(result)}")
    lines = list(found_lines(result))
    for line in lines or ["nothing found"]:
        context.say(f"  {line}")
    if draw and result["width"]:
        _draw(context, result)


def head(result: Mapping[str, Any]) -> str:
    """What ran where, and how long it took; a remembered result measured nothing anew."""
    size = f"{result['width']}x{result['height']}, " if result["width"] else ""
    what = f"{size}{printable(result['model'])} {printable(result['model_version'])} on {result['backend']}"
    if result["cached"]:
        return f"{what}, remembered from before ({result['total_time_ms']:.1f} ms to look it up)"
    back = f"; {printable(result['reason'])}" if result.get("fell_back") else ""
    return f"{what}, model {result['inference_time_ms']:.0f} ms, in all {result['total_time_ms']:.0f} ms{back}"


def found_lines(result: Mapping[str, Any]) -> list[str]:
    """One line for each finding."""
    lines = []
    for place, box in enumerate(result["boxes"]):
        corners = " ".join(f"{box[name]:.0f}" for name in ("x_min", "y_min", "x_max", "y_max"))
        points = result["poses"][place]["keypoints"] if place < len(result["poses"]) else []
        pose = f"  {sum(point['score'] >= SEEN for point in points)} of {len(points)} points" if points else ""
        lines.append(f"{box['score']:.2f}  {printable(box['label']):<16} {corners}{pose}")
    if not result["boxes"]:
        lines += [f"{len(pose['keypoints'])} points of one body" for pose in result["poses"]]
    lines += [f"{each['score']:.2f}  {printable(each['label'])}" for each in result["classes"]]
    for each in result["segments"]:
        lines.append(f"{each['score']:.2f}  {printable(each['label']):<16} {each['begin']:.2f} s to {each['end']:.2f} s")
    lines += [_mask_line(mask) for mask in result["masks"]]
    if result["masks_left_out"]:
        lines.append(f"{result['masks_left_out']} masks were too large to be kept")
    if result["embedding"]:
        lines.append(f"a vector of {len(result['embedding'])} numbers; --json shows them")
    lines += [f"{printable(name)} {value:g}" for name, value in result["statistics"].items()]
    return lines


def _mask_line(mask: Mapping[str, Any]) -> str:
    covered = sum(mask["counts"][1::2])
    return f"mask  {printable(mask['label']):<16} {100 * covered / max(1, mask['width'] * mask['height']):.1f} % of the picture"


def _draw(context: Context, result: dict[str, Any]) -> None:
    wanted = {
        "result_id": result["result_id"],
        "columns": min(context.width, 120),
        "rows": 30,
        "mode": picture_mode(context.environ),
    }
    try:
        context.say(context.client.invoke("inference.preview", wanted)["text"])
    except (NotFoundError, InferenceError) as error:
        context.say(f"  (not drawn: {error.message})")


def picture_mode(environ: Mapping[str, str]) -> str:
    """How this terminal can show pictures."""
    caps = caps_of(environ)
    if caps.images != "none":
        return caps.images
    return "half-blocks" if caps.full_glyphs and caps.colours is not Colours.console else "console"
