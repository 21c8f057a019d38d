"""OpenAI's shapes of a transcript, the emotion in each segment."""

from m4ser.serve.transcripts import write_transcript

NOTHING = {"speaker": None, "channel": None, "ood_score": None, "error": None}
ROWS = [
    {"start": 0.5, "end": 1.5, "text": " I can't", "label": "sad", "scores": {"sad": 0.75, "happy": 0.25}}
    | {"confidence": 0.75, "decision": "uncertain", **NOTHING},
    {"start": 2.0, "end": 2.5, "text": None, "label": None, "scores": {}}
    | {"confidence": None, "decision": None, **NOTHING, "error": "cannot be classified"},
]


def test_verbose_json_has_the_emotion_of_each_segment():
    written = write_transcript(ROWS, 3.21049, "verbose_json")
    assert (written["text"], written["duration"], written["task"]) == ("I can't", 3.21, "transcribe")
    first, second = written["segments"]
    assert (first["id"], first["start"], first["end"], first["text"]) == (0, 0.5, 1.5, "I can't")
    assert (first["emotion"], first["scores"]["sad"], first["confidence"]) == ("sad", 0.75, 0.75)
    assert first["decision"] == "uncertain"
    assert (second["text"], second["emotion"], second["error"]) == ("", None, "cannot be classified")
    openai = {"id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio"}
    assert openai | {"no_speech_prob"} <= first.keys()


def test_other_shapes():
    assert write_transcript(ROWS, 3, "json") == {"text": "I can't"}
    assert write_transcript(ROWS, 3, "text") == "I can't\n"
    assert "00:00:00,500 --> 00:00:01,500\n[uncertain 0.75] I can't" in write_transcript(ROWS, 3, "srt")
    assert write_transcript(ROWS, 3, "vtt").startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n")
    assert write_transcript([], 3, "verbose_json")["segments"] == []
