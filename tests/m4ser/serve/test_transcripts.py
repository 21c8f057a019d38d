"""OpenAI's shapes of a transcript, the emotion in each segment."""

from m4ser.serve.transcripts import write_transcript

NOTHING = dict.fromkeys(("text", "label", "confidence", "decision", "speaker", "channel", "ood_score", "error"))
ROWS = [
    {**NOTHING, "start": 0.5, "end": 1.5, "text": " I can't", "label": "sad", "scores": {"sad": 0.75, "happy": 0.25}}
    | {"confidence": 0.75, "decision": "uncertain"},
    {**NOTHING, "start": 2.0, "end": 2.5, "scores": {}, "error": "cannot be classified"},
]
OPENAI = "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob"


def test_every_shape():
    written = write_transcript(ROWS, 3.21049, "verbose_json")
    assert (written["text"], written["duration"], written["task"]) == ("I can't", 3.21, "transcribe")
    first, second = written["segments"]
    assert first.keys() > {*OPENAI.split()}
    assert (first["start"], first["end"], first["text"], first["emotion"]) == (0.5, 1.5, "I can't", "sad")
    assert (first["scores"]["sad"], first["confidence"], first["decision"]) == (0.75, 0.75, "uncertain")
    assert (second["id"], second["text"], second["emotion"], second["error"]) == (1, "", None, "cannot be classified")
    assert write_transcript(ROWS, 3, "json") == {"text": "I can't"}
    assert write_transcript(ROWS, 3, "text") == "I can't\n"
    assert "00:00:00,500 --> 00:00:01,500\n[uncertain 0.75] I can't" in write_transcript(ROWS, 3, "srt")
    assert write_transcript(ROWS, 3, "vtt").startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n")
