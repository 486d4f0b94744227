"""What ONNX Runtime's messages mean, and what to do about them."""

from __future__ import annotations

import re

from appliance.errors import ModelError

AGAIN = "fetch the model again, or export it again"
KINDS: tuple[tuple[str, str, str], ...] = (
    (r"Protobuf parsing failed|INVALID_PROTOBUF", "it is cut off, or no ONNX file", AGAIN),
    (r"No graph was found", "it is empty, or no ONNX file", AGAIN),
    (r"File doesn't exist|NO_SUCHFILE", "there is no such file", AGAIN),
    (
        r"External data path does not exist|External data path validation failed|cannot open external data",
        "the file with its weights is not beside it{data}",
        "put the external data file beside it and name it in the manifest (kind data); or export the model into one file",
    ),
    (
        r"out of bounds or can not be read in full|External initializer",
        "the file with its weights is shorter than it must be{data}",
        "fetch the external data file again",
    ),
    (
        r"[Oo]pset (?P<found>\d+) is under development.*?till opset (?P<most>\d+)",
        "it needs operators of opset {found}, this ONNX Runtime knows them up to {most}",
        "export the model with an older opset, or upgrade the appliance",
    ),
    (
        r"Unsupported model IR version: (?P<found>\d+), max supported IR version: (?P<most>\d+)",
        "it has format version {found}, this ONNX Runtime reads them up to {most}",
        "export the model with an older version of onnx, or upgrade the appliance",
    ),
    (
        r"No Op registered for (?P<found>\S+)|NOT_IMPLEMENTED.*?(?:for|implementation for) (?P<other>\S+)",
        "it uses the operator {found}, which this ONNX Runtime does not have",
        "export the model with standard operators",
    ),
    (
        r"Failed to allocate memory|bad_alloc|bad allocation",
        "there is not enough memory for it",
        "free memory, or use a smaller model",
    ),
)
"""Pattern in the runtime's message, what it means, the next step."""
PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


def load_error(path: str, error: Exception) -> ModelError:
    """Why a file cannot be loaded, in words for people."""
    text = str(error)
    for pattern, meaning, step in KINDS:
        if found := re.search(pattern, text, re.DOTALL):
            named = {name: value for name, value in found.groupdict().items() if value}
            return ModelError(f"{path} cannot be loaded: {_fill(meaning, named, text)}.", step + ".")
    return ModelError(f"{path} is not a usable ONNX model: {first_line(text)}", AGAIN + ".")


def run_error(error: Exception) -> ModelError:
    """Why a run failed."""
    text = str(error)
    if isinstance(error, MemoryError) or re.search(KINDS[-1][0], text):
        return ModelError(
            "There was not enough memory to run the model.", "free memory, lower the batch, or use a smaller model."
        )
    return ModelError(f"The model failed: {first_line(text)}", "verify the model: prime-spark model verify.")


def first_line(text: str) -> str:
    """The message without the runtime's own prefix; bounded."""
    lines = PREFIX.sub("", text).splitlines()
    return (lines[0] if lines else "no reason was given")[:300]


def _fill(meaning: str, named: dict[str, str], text: str) -> str:
    file = re.search(r'"([^"]+)"', text)
    data = f" ({file[1].rpartition('/')[2]})" if file else ""
    return meaning.format(data=data, found=named.get("found") or named.get("other", "?"), most=named.get("most", "?"))
