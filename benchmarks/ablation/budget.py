"""The one budget that every row gets."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Budget:
    """``windows``: training windows (spread evenly over the people); epochs of the two stages; ``phases``: cuts of the
    hop grid that the student sees."""

    windows: int = 2500
    epochs1: int = 8
    epochs2: int = 8
    phases: int = 4
    batch: int = 32

    def to_dict(self) -> dict[str, int]:
        """For rows and tables."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.windows:,} training windows of 20 s, {self.epochs1} epochs of stage 1, {self.epochs2} of stage 2, "
            f"{self.phases} phases, one thread"
        )
