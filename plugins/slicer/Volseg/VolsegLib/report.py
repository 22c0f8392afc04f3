"""What a run said about itself: flags for the user."""


def flags(output):
    """Sentences that deserve a look, from a run's standard output: lines that start with `Note: `."""
    found = []
    for line in output.splitlines():
        if line.startswith("Note: ") and line[6:] not in found:
            found.append(line[6:])
    return found


def returned(text):
    """Return values of a run: `name=value` lines."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}
