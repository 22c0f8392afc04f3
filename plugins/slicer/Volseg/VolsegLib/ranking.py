"""A ranking session: four candidates of a slice, keys 1 to 4 from best to worst, undo, skip. No window, no network."""

import json
import os

#: Outline colours of the candidates, as the server draws them: orange, blue, green, pink.
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 200, 120), (230, 90, 200))
WORDS = ("best", "2nd", "3rd", "last")


class Ranking:
    """The judgement of one slice while it is made. `candidates` is the server's answer."""

    def __init__(self, candidates):
        self.candidates = candidates
        self.order = []

    def choose(self, number):
        """Gives candidate 0..3 the next place; True once all have one. The last place is what is left."""
        if number not in range(4):
            raise ValueError("a candidate is 0 to 3")
        if number not in self.order:
            self.order.append(number)
        if len(self.order) == 3:
            self.order += [n for n in range(4) if n not in self.order]
        return self.complete

    def undo(self):
        """Takes the last choice back."""
        # The fourth place came by itself.
        del self.order[(2 if len(self.order) == 4 else -1):]

    @property
    def complete(self):
        return len(self.order) == 4

    def place(self, number):
        """Word for a candidate's place; empty while it has none."""
        return WORDS[self.order.index(number)] if number in self.order else ""

    def judgement(self, rater, skipped=False):
        """The record to save. Only fields of the format: pictures and everything else stay behind."""
        if not skipped and not self.complete:
            raise ValueError("not all candidates have a place")
        keys = ("version", "case", "image_sha256", "weights_sha256", "plane", "slice", "organ", "prompt", "tile",
                "candidates", "size")
        record = {key: self.candidates.get(key) for key in keys}
        record["ranks"] = None if skipped else [self.order.index(n) + 1 for n in range(4)]
        record.update(skipped=skipped, rater=rater)
        return record


def append_line(path, record, time):
    """Appends a judgement to a file without a server, flushed to disk. `time` is UTC text."""
    record = {key: value for key, value in record.items() if key != "size"}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(dict(record, time=time)) + "\n")
        file.flush()
        os.fsync(file.fileno())
