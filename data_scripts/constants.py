"""What every corpus, whatever it was, shares once it is prepared."""

#: The splits, in the order in which they are written and shown.
SPLITS = ("train", "validation", "test")
#: Of prepared recordings and of what speech recognisers read, in Hz.
SAMPLING_RATE = 16000


def dialogue_of(identity: str) -> str:
    """Return the dialogue that an utterance is of, its id up to the last underscore, as IEMOCAP and MELD name them.

    `train_dia0_utt3` is of `train_dia0`, `Ses01F_impro01_F000` of `Ses01F_impro01`; an id without one has none: "".
    """
    return identity.rpartition("_")[0]
