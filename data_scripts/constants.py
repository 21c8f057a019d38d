"""The names and numbers that every corpus, whatever it was, shares once it is prepared."""

#: The splits, in the order in which they are written and shown.
SPLITS = ("train", "validation", "test")
#: Of prepared recordings and of what speech recognisers read, in Hz.
SAMPLING_RATE = 16000
