"""`handler.py` of a saved model: what Hugging Face Inference Endpoints run. It imports no file beside it."""

import base64
import os
from typing import Any

from transformers import pipeline

#: What a saved model needs where this package is not installed, as `pip install -r` reads it.
REQUIREMENTS = ("torch>=2.11", "transformers>=5.18,<6", "soundfile>=0.13", "soxr>=0.5", "av>=17.1")
#: What a request may ask for. It may not name a recognizer, which would be fetched and run.
PARAMETERS = {"text", "top_k", "channel", "return_corrections", "return_embedding", "return_decision"}


class EndpointHandler:
    """Answers the requests of an endpoint.

    Args:
        path: the folder of the model. The environment variable `M4SER_ASR` names a recognizer, which writes the
            transcript where a request has none: a model's name or folder.
    """

    def __init__(self, path: str = ""):
        asr = os.environ.get("M4SER_ASR")
        self.pipeline = pipeline("audio-classification", model=path, trust_remote_code=True, asr=asr)

    def __call__(self, data: dict[str, Any]) -> Any:
        """Answer one request.

        Args:
            data: `inputs`, the bytes of an audio file or the same in base64; and `parameters`, where given: the `text`
                that was said, and options of the pipeline's call: `top_k`, `channel`, `return_decision` …

        Returns:
            What the pipeline answers, in JSON's types: [{"label", "score"}, …].

        Raises:
            ValueError: the audio cannot be read, there is no text and nothing to write it, or a parameter is not known.
        """
        audio, options = data["inputs"], dict(data.get("parameters") or {})
        if unknown := sorted(options.keys() - PARAMETERS):
            raise ValueError(f"parameters has no {', '.join(unknown)}; it may have {', '.join(sorted(PARAMETERS))}.")
        if isinstance(audio, str):  # JSON has no bytes, and neither an address nor a path is followed for a stranger
            try:
                audio = base64.b64decode(audio, validate=True)
            except ValueError as error:
                raise ValueError("inputs must be the bytes of an audio file, or the same in base64.") from error
        answer = self.pipeline({"audio": audio, "text": options.pop("text", None)}, **options)
        if options.get("return_embedding"):
            answer["embedding"] = answer["embedding"].tolist()
        return answer
