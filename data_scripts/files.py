"""Writing files whole, and saying what is wrong where that fails."""

import errno

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def explain(error: OSError) -> str:
    """Return one line that says what went wrong and what the user can do about it."""
    place = error.filename if error.filename is not None else "the output folder"
    if error.errno in _FULL or "No space left" in str(error):
        return (
            f"the disk is full ({place}): free some space, or choose an --output_dir on another disk, and run the same "
            "command again; what was finished is kept"
        )
    if isinstance(error, PermissionError):
        return f"no permission for {place}: make it readable (an output folder: writable) for your user, e.g. by chmod"
    return " ".join(str(error).split())
