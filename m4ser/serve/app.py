"""The application: its addresses, and the way of a request from its bytes to the pipeline's answer."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

import modeling_m4ser
from m4ser.serve import Settings
from m4ser.serve.batches import Batcher
from m4ser.serve.bodies import (
    ClipOptions,
    TimelineOptions,
    TranscriptionOptions,
    check_call,
    read_clip,
    read_options,
    read_upload,
)
from m4ser.serve.gate import Gate, RequestError, State, error_response
from m4ser.serve.transcripts import write_transcript
from m4ser.timeline import write_rows

_CLIENTS_FAULTS = ("AudioError", "PartError", "ValueError")  # of what the pipeline answers in place of a result


class Service:
    """The pipeline, shared by all requests: clips are answered in batches, whole recordings one after another."""

    def __init__(self, settings: Settings):
        self.settings, self.state = settings, State()
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self._calls = ThreadPoolExecutor(1, "calls")
        self._batcher = Batcher(self._classify, settings.batch_size, settings.batch_ms / 1000)

    def load(self, load: Callable[[], Any]) -> None:
        """Load the pipeline; from then on the server is ready."""
        self.state.pipe = load()
        self.state.metrics.ready.set(1)

    async def clip(self, content: bytes, options: ClipOptions) -> Any:
        """Answer `POST /`."""
        with self._batcher.coming():
            limit = min(self.settings.max_seconds, self.state.pipe.processor.max_audio_seconds)
            audio = await self._decode(read_clip, content, limit)
            self.state.metrics.audio.inc(len(audio["array"]) / audio["sampling_rate"])
            item = {"audio": audio, "text": options.text, "channel": options.channel}
            future = self._batcher.submit(item)
        answer = await self._wait(future)
        if "error" in answer:
            status = 422 if answer["error_type"] in _CLIENTS_FAULTS else 500
            raise RequestError(status, answer["error"] if status == 422 else "the model failed")
        answer["emotions"] = answer["emotions"][: options.top_k]
        return answer if options.return_decision else answer["emotions"]

    async def rows(self, content: bytes, **options: Any) -> tuple[list[dict[str, Any]], float]:
        """Return the timeline of a recording, and its seconds."""
        seconds = await self._decode(check_call, content, self.settings.max_seconds)
        self.state.metrics.audio.inc(seconds)
        options |= {"segments": self.settings.segments, "batch_size": self.settings.batch_size}
        try:
            return await self._wait(self._calls.submit(self.state.pipe.timeline, content, **options)), seconds
        except ImportError as error:
            raise RequestError(501, str(error)) from error
        except ValueError as error:
            raise RequestError(422, str(error)) from error

    async def _decode(self, function: Callable, content: bytes, limit: float) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, content, limit)

    async def _wait(self, future: Future) -> Any:
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await asyncio.wrap_future(future)  # on time-out, what has not begun is cancelled
        except TimeoutError as error:
            raise RequestError(504, f"no answer within {self.settings.timeout:g} s") from error

    def _classify(self, clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.state.metrics.batches.observe(len(clips))
        return self.state.pipe(clips, batch_size=len(clips), on_error="skip", return_decision=True)


def create_app(settings: Settings, load: Callable[[], Any], fail: Callable[[Exception], None]) -> FastAPI:
    """Return the application.

    Args:
        settings (`Settings`): its limits.
        load (`Callable`): returns the pipeline; runs beside the server, which answers 503 until it has returned.
        fail (`Callable`): is told where it raises.
    """
    service = Service(settings)

    def load_or_fail() -> None:
        try:
            service.load(load)
        except Exception as error:
            fail(error)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        Thread(target=load_or_fail, name="load", daemon=True).start()
        yield

    app = FastAPI(title="M4SER", version=modeling_m4ser.__version__, lifespan=lifespan)
    _add_questions(app, service)
    _add_signs(app, service)
    paths = frozenset(path for route in app.routes if (path := getattr(route, "path", None)))
    app.add_middleware(Gate, settings=settings, state=service.state, paths=paths)
    if settings.cors_origins:
        allowed: Any = {"allow_origins": settings.cors_origins, "allow_methods": ["*"], "allow_headers": ["*"]}
        app.add_middleware(CORSMiddleware, **allowed)
    _add_errors(app)
    return app


def _body(model: Any, in_json: bool = True) -> dict[str, Any]:
    """Return what the OpenAPI page says of a body, which is read by hand."""
    schema = model.model_json_schema()
    file = {"file": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": ["file"], "properties": file | schema["properties"]}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if in_json:
        both = {"inputs": {"type": "string", "format": "byte"}, "parameters": schema}
        content["application/json"] = {"schema": {"type": "object", "required": ["inputs"], "properties": both}}
        content["audio/*"] = {"schema": file["file"]}
    return {"requestBody": {"required": True, "content": content}}


def _add_questions(app: FastAPI, service: Service) -> None:
    limit = service.settings.max_bytes

    @app.post("/", openapi_extra=_body(ClipOptions))
    async def classify(request: Request) -> Any:
        """Emotions of a clip, best first, as the task `audio-classification` answers."""
        upload = await read_upload(request, limit)
        return await service.clip(upload.content, read_options(ClipOptions, upload.options))

    @app.post("/timeline", openapi_extra=_body(TimelineOptions))
    async def timeline(request: Request) -> Response:
        """Emotions of a recording of any length, turn by turn."""
        upload = await read_upload(request, limit)
        options = read_options(TimelineOptions, upload.options).model_dump()
        form = options.pop("format")
        rows, _ = await service.rows(upload.content, **options)
        return JSONResponse(rows) if form == "json" else PlainTextResponse(write_rows(rows, form, "recording"))

    @app.post("/v1/audio/transcriptions", openapi_extra=_body(TranscriptionOptions, in_json=False))
    async def transcribe(request: Request) -> Response:
        """Words of a recording in OpenAI's shapes; `verbose_json` has the emotion of each segment."""
        upload = await read_upload(request, limit)
        form = read_options(TranscriptionOptions, upload.options).response_format
        if "asr" not in service.state.pipe._preprocess_params:
            raise RequestError(501, "this server has no recognizer: start it with --asr")
        written = write_transcript(*await service.rows(upload.content), form)
        return PlainTextResponse(written) if isinstance(written, str) else JSONResponse(written)


def _add_signs(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The server runs."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        """The model is loaded; 503 until then."""
        is_ready = service.state.pipe is not None
        return JSONResponse({"status": "ready" if is_ready else "loading"}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times in Prometheus' form."""
        return Response(generate_latest(service.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return error_response(request.url.path, error.status, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return error_response(request.url.path, error.status_code, str(error.detail), dict(error.headers or {}))
