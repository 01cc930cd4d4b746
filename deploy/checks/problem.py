"""What is wrong, and where."""

from dataclasses import dataclass

from deploy.checks.configuration import Block


@dataclass(frozen=True, slots=True)
class Problem:
    """``place`` is what a person looks for: a block's address, a line, an argument."""

    file: str
    place: str
    what: str

    @classmethod
    def in_block(cls, block: Block, what: str) -> "Problem":
        return cls(block.file, block.address, what)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.place, self.what) if part)
