"""The page of a model, as a Space of the Hub runs it: put the names of your model and of its recognizer here."""

from m4ser.app import launch

launch("your-name/your-model", asr="openai/whisper-tiny.en", host="0.0.0.0")
