"""Reading requests: the bytes of a recording and the options, from JSON, a form or the bare body."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from m4ser.serve.gate import drain
from modeling_m4ser.audio_m4ser import stream_audio
from modeling_m4ser.levels_m4ser import AudioError, TooLongError

_BODY_SECONDS = 60.0  # in which a body arrives
_TEXT_HEADER = "X-Text"


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClipOptions(_Options):
    """Options of `POST /`: those of the task `audio-classification`, and the pipeline's."""

    text: str | None = Field(None, description="What is said; left out, the server's recognizer writes it")
    top_k: PositiveInt | None = Field(None, description="How many labels; all by default")
    channel: NonNegativeInt | None = Field(None, description="Which channel to read; the mean of all by default")
    return_decision: bool = Field(False, description="Answer with the text, decision, confidence and labels too")
    function_to_apply: Literal["softmax"] | None = Field(None, description="Scores are calibrated probabilities")


class TimelineOptions(_Options):
    """Options of `/timeline`."""

    channel: NonNegativeInt | Literal["each"] | None = Field(None, description="`each`: one speaker a channel")
    max_seconds: float = Field(15.0, ge=1, description="Longer turns are split")
    window: float | None = Field(None, gt=0, description="Seconds of overlapping windows instead of turns")
    hop: float | None = Field(None, ge=0.1, description="Seconds between the starts of windows")
    format: Literal["json", "csv", "srt", "vtt", "rttm", "audacity"] = "json"


class TranscriptionOptions(_Options):
    """Options of OpenAI's transcriptions. The recognizer is the server's: the first four change nothing."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["segment"]] = Field([], alias="timestamp_granularities[]")
    stream: Literal[False, "false", "0"] | None = None


async def read_upload(request: Request, max_bytes: int) -> tuple[bytes, dict[str, Any]]:
    """Read the recording and the options of a request; raise HTTPException 408, 413 or 422.

    Nothing is written to the disk, and no address is opened.
    """
    options: dict[str, Any] = dict(request.query_params)
    if _TEXT_HEADER in request.headers:
        options["text"] = unquote(request.headers[_TEXT_HEADER].encode("latin-1").decode("utf-8", "replace"))
    body = await _read_body(request, max_bytes)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        content, own = await _read_form(request, body)
    elif kind == "application/json":
        content, own = _read_json(body)
    else:
        content, own = body, {}
    if not content:
        raise HTTPException(422, "no recording: send its bytes as the body, in JSON as base64, or in a form as file")
    return content, options | own


def read_options(model: type[BaseModel], options: Mapping[str, Any]) -> Any:
    """Return the options of a request; raise HTTPException 422 where one is not known or has a wrong value."""
    try:
        return model.model_validate(options)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = sorted({f"{item['loc'][0] if item['loc'] else 'options'}: {item['msg']}" for item in found})
        raise HTTPException(422, "; ".join(reasons[:5])) from error


def read_recording(content: bytes, max_seconds: float) -> dict[str, Any]:
    """Return a recording as a waveform (samples, channels) with its rate; raise HTTPException 413 or 422."""
    try:
        blocks, rates = zip(*stream_audio(content, "the recording", max_seconds), strict=True)
    except TooLongError as error:
        raise HTTPException(413, f"a recording has at most {max_seconds:g} s here") from error
    except AudioError as error:
        raise HTTPException(422, str(error)) from error
    return {"array": np.concatenate(blocks), "sampling_rate": rates[0]}


async def _read_body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    body.clear()
                    await drain(request.receive)
                    raise HTTPException(413, f"a body has at most {max_bytes} bytes")
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not arrive within {_BODY_SECONDS:g} s") from error
    except ClientDisconnect as error:
        raise HTTPException(499, "the client left") from error
    return bytes(body)


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # the body is in memory and has a limit: no file is ever written


async def _read_form(request: Request, body: bytes) -> tuple[bytes, dict[str, Any]]:
    async def stream() -> Any:
        yield body

    try:
        form = await _InMemory(request.headers, stream(), max_files=1, max_fields=20).parse()
    except (MultiPartException, ValueError) as error:
        raise HTTPException(422, f"the form cannot be read: {getattr(error, 'message', error)}") from error
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    names = [name for name, value in form.multi_items() if not isinstance(value, UploadFile)]
    options = {name: form.getlist(name) if name.endswith("[]") else form[name] for name in names}
    return (await files[0].read() if files else b""), options


def _read_json(body: bytes) -> tuple[bytes, dict[str, Any]]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, "the body is not JSON, as its Content-Type says") from error
    inputs = given.get("inputs") if isinstance(given, dict) else None
    options = given.get("parameters") or {} if isinstance(given, dict) else {}
    if not isinstance(inputs, str) or not isinstance(options, dict) or given.keys() - {"inputs", "parameters"}:
        raise HTTPException(422, 'JSON is {"inputs": the recording in base64, "parameters": {…}}')
    try:
        return base64.b64decode(inputs, validate=True), options
    except ValueError as error:
        raise HTTPException(422, "inputs is no base64; no address is opened: send the recording itself") from error
