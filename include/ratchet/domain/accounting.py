"""Where each landed row has gone. Nothing is lost: the parts add up to the whole, every night."""

from __future__ import annotations

from ratchet.domain.records import Record


class RowAccount(Record):
    """The rows of a snapshot's source, each counted once."""

    landed: int  # rows of all pinned files of the source
    outside: int  # dated by their column to a day outside of the window
    quarantined_partitions: int  # in partitions that are quarantined as a whole
    quarantined_rows: int  # quarantined one by one
    unlabelled: int  # without a label
    dropped: int  # left out by the features query
    fitted: int  # the trees were grown on them
    watched: int  # early stopping watched them
    held_out: int  # both models are evaluated on them

    @property
    def parts(self) -> dict[str, int]:
        """What became of the landed rows, in order."""
        return {name: count for name, count in self.model_dump().items() if name != "landed"}

    def __str__(self) -> str:
        """Say how many rows went where."""
        return f"{self.landed} landed = " + " + ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in self.parts.items()
        )

    @property
    def missing(self) -> int:
        """Rows that landed and are found nowhere; below zero where some are counted twice."""
        return self.landed - sum(self.parts.values())
