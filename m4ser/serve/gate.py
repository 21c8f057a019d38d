"""What every request passes before it is read: the token, the model's state, how many are answered; and the counts."""

import asyncio
import hmac
import logging
from contextlib import suppress
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

logger = logging.getLogger("uvicorn.error")
#: Answered to everyone, without a token and while the model is loaded.
OPEN_PATHS = ("/health", "/ready")
_DRAIN_SECONDS = 5.0
_LATER = {"Retry-After": "1"}
_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    """Counters in Prometheus' form; each server has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry: Any = {"registry": self.registry}
        self.requests = Counter("m4ser_requests", "Requests answered", ["path", "status"], **registry)
        self.seconds = Histogram("m4ser_request_seconds", "Time to answer", ["path"], buckets=_BUCKETS, **registry)
        self.batches = Histogram("m4ser_batch_size", "Clips in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), **registry)
        self.audio = Counter("m4ser_audio_seconds", "Seconds of audio that were read", **registry)
        self.in_flight = Gauge("m4ser_in_flight", "Requests being read or answered", **registry)
        self.ready = Gauge("m4ser_ready", "1 once the model is loaded", **registry)


def error_response(path: str, error: HTTPException) -> Response:
    """Return an error as clients of a path read it: in OpenAI's shape under `/v1`, in Hugging Face's elsewhere."""
    told: Any = error.detail
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        told = {"message": error.detail, "type": kind, "param": None, "code": str(error.status_code)}
    return JSONResponse({"error": told}, error.status_code, error.headers)


async def drain(receive: Any) -> None:
    """Read the rest of a body and forget it: many clients look for the answer only when they have sent everything."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body"):
                pass


class Gate:
    """An ASGI middleware that refuses early, and counts what is answered."""

    def __init__(self, app: Any, service: Any, paths: set[str]):
        self.app, self.service, self.paths, self.in_flight = app, service, paths, 0
        self.settings, self.metrics = service.settings, service.metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, began, status = scope["path"], perf_counter(), 499  # of one that the client left

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self._check(scope)
        except HTTPException as error:
            await drain(receive)
            await error_response(path, error)(scope, receive, counted)
        else:
            self._count(scope, 1)
            try:
                await self.app(scope, receive, counted)
            except Exception:
                logger.exception("%s failed", path)
                await error_response(path, HTTPException(500, "the server failed"))(scope, receive, counted)
            finally:
                self._count(scope, -1)
        finally:
            shown = path if path in self.paths else "other"
            self.metrics.requests.labels(shown, str(status)).inc()
            self.metrics.seconds.labels(shown).observe(perf_counter() - began)

    def _count(self, scope: Any, change: int) -> None:
        self.in_flight += change * (scope["method"] == "POST")
        self.metrics.in_flight.set(self.in_flight)

    def _check(self, scope: Any) -> None:
        if scope["path"] in OPEN_PATHS:
            return
        headers = dict(scope["headers"])
        if self.settings.token is not None:
            given, wanted = headers.get(b"authorization", b""), f"Bearer {self.settings.token}".encode()
            if not hmac.compare_digest(given, wanted):
                raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        if scope["method"] != "POST":
            return
        if self.service.pipe is None:
            raise HTTPException(503, "the model is being loaded: try again later", _LATER)
        if self.in_flight >= self.settings.max_requests:
            raise HTTPException(429, f"{self.in_flight} requests are being answered: try again later", _LATER)
        if int(headers.get(b"content-length", b"0")) > self.settings.max_bytes:
            raise HTTPException(413, f"a body has at most {self.settings.max_bytes} bytes")
