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
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

import modeling_m4ser
from m4ser.serve import CPU_THREADS, CPU_WORKERS, Settings, bodies
from m4ser.serve.batches import Batcher
from m4ser.serve.gate import Gate, Metrics, error_response
from m4ser.serve.page import draw_page
from m4ser.serve.transcripts import write_transcript
from m4ser.timeline import write_rows

_CLIENTS_FAULTS = ("AudioError", "PartError", "ValueError")  # of what the pipeline answers in place of a result


class Service:
    """The pipeline, shared by all requests: clips are answered in batches, whole recordings one after another."""

    def __init__(self, settings: Settings):
        self.settings, self.metrics = settings, Metrics()
        self.pipe: Any = None
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self._calls = ThreadPoolExecutor(1, "calls")

    def load(self, load: Callable[[], Any], fail: Callable[[Exception], None]) -> None:
        """Load the pipeline; from then on the server is ready."""
        try:
            pipe = load()
        except Exception as error:
            return fail(error)
        kind = getattr(pipe.device, "type", None)  # None: onnxruntime, which was told its threads when it loaded
        workers = CPU_WORKERS if kind in ("cpu", None) else 1
        if kind == "cpu":
            import torch

            torch.set_num_threads(min(torch.get_num_threads(), CPU_THREADS))
        settings = self.settings
        self._batcher = Batcher(self._classify, settings.batch_size, settings.batch_ms / 1000, workers)
        self.pipe = pipe
        self.metrics.ready.set(1)

    async def clip(self, content: bytes, options: bodies.ClipOptions) -> Any:
        """Answer `POST /`."""
        with self._batcher.coming():
            limit = min(self.settings.max_seconds, self.pipe.processor.max_audio_seconds)
            reading = asyncio.get_running_loop().run_in_executor(self._decoders, self._read, content, limit)
            audio, _ = await reading
            future = self._batcher.submit({"audio": audio, "text": options.text, "channel": options.channel})
        answer = await self._wait(future)
        if "error" in answer:
            if answer["error_type"] not in _CLIENTS_FAULTS:
                raise RuntimeError(answer["error"])
            raise HTTPException(422, answer["error"])
        answer["emotions"] = answer["emotions"][: options.top_k]
        return answer if options.return_decision else answer["emotions"]

    async def rows(self, content: bytes, **options: Any) -> tuple[list[dict[str, Any]], float]:
        """Return the timeline of a recording, and its seconds."""
        options |= {"segments": self.settings.segments, "batch_size": self.settings.batch_size}

        def answer() -> tuple[list[dict[str, Any]], float]:
            audio, seconds = self._read(content, self.settings.max_seconds)  # only now: one at a time is in memory
            return self.pipe.timeline(audio, **options), seconds

        try:
            return await self._wait(self._calls.submit(answer))
        except ImportError as error:
            raise HTTPException(501, str(error)) from error
        except ValueError as error:
            raise HTTPException(422, str(error)) from error

    def _read(self, content: bytes, limit: float) -> tuple[dict[str, Any], float]:
        audio = bodies.read_recording(content, limit)
        seconds = len(audio["array"]) / audio["sampling_rate"]
        self.metrics.audio.inc(seconds)
        return audio, seconds

    async def _wait(self, future: Future) -> Any:
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await asyncio.wrap_future(future)  # on time-out, what has not begun is cancelled
        except TimeoutError as error:
            raise HTTPException(504, f"no answer within {self.settings.timeout:g} s") from error

    def _classify(self, clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.metrics.batches.observe(len(clips))
        return self.pipe(clips, batch_size=len(clips), on_error="skip", return_decision=True)


def create_app(settings: Settings, load: Callable[[], Any], fail: Callable[[Exception], None]) -> FastAPI:
    """Return the application; `load` returns its pipeline, beside the server, and `fail` is told where it raises."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        Thread(target=service.load, args=(load, fail), daemon=True).start()
        yield

    about: Any = {"title": "M4SER", "version": modeling_m4ser.__version__}
    app = FastAPI(**about, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_questions(app, service)
    _add_signs(app, service)
    paths = {getattr(route, "path", "") for route in app.routes}
    app.add_middleware(Gate, service=service, paths=paths)
    if settings.cors_origins:
        allowed: Any = {"allow_origins": settings.cors_origins, "allow_methods": ["*"], "allow_headers": ["*"]}
        app.add_middleware(CORSMiddleware, **allowed)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return error_response(request.url.path, error)

    return app


def _body(model: Any, in_json: bool = True) -> dict[str, Any]:
    """Return what the OpenAPI page says of a body, which is read by hand."""
    schema, file = model.model_json_schema(), {"type": "string", "format": "binary"}
    shapes: dict[str, Any] = {"multipart/form-data": {"file": file, **schema["properties"]}}
    if in_json:
        shapes["application/json"] = {"inputs": {"type": "string", "format": "byte"}, "parameters": schema}
    content: dict[str, Any] = {
        kind: {"schema": {"type": "object", "properties": properties}} for kind, properties in shapes.items()
    }
    return {"requestBody": {"required": True, "content": content | {"audio/*": {"schema": file}}}}


def _add_questions(app: FastAPI, service: Service) -> None:
    limit = service.settings.max_bytes

    @app.post("/", openapi_extra=_body(bodies.ClipOptions))
    async def classify(request: Request) -> Any:
        """Emotions of a clip, best first, as the task `audio-classification` answers."""
        content, options = await bodies.read_upload(request, limit)
        return await service.clip(content, bodies.read_options(bodies.ClipOptions, options))

    @app.post("/timeline", openapi_extra=_body(bodies.TimelineOptions))
    async def timeline(request: Request) -> Response:
        """Emotions of a recording of any length, turn by turn."""
        content, given = await bodies.read_upload(request, limit)
        options = bodies.read_options(bodies.TimelineOptions, given).model_dump()
        form = options.pop("format")
        rows, _ = await service.rows(content, **options)
        return JSONResponse(rows) if form == "json" else PlainTextResponse(write_rows(rows, form, "recording"))

    @app.post("/v1/audio/transcriptions", openapi_extra=_body(bodies.TranscriptionOptions, in_json=False))
    async def transcribe(request: Request) -> Response:
        """Words of a recording in OpenAI's shapes; `verbose_json` has the emotion of each segment."""
        content, options = await bodies.read_upload(request, limit)
        form = bodies.read_options(bodies.TranscriptionOptions, options).response_format
        if "asr" not in service.pipe._preprocess_params:
            raise HTTPException(501, "this server has no recognizer: start it with --asr")
        written = write_transcript(*await service.rows(content), form)
        return PlainTextResponse(written) if isinstance(written, str) else JSONResponse(written)


def _add_signs(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> str:
        """The server runs."""
        return "ok"

    @app.get("/ready")
    async def ready() -> Response:
        """The model is loaded; 503 until then."""
        is_ready = service.pipe is not None
        return JSONResponse({"status": "ready" if is_ready else "loading"}, 200 if is_ready else 503)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(draw_page(app.openapi()))

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times in Prometheus' form."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
