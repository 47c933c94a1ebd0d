"""What a stream of edits is: which records, how many, and what is asked of them. Knows nothing of how it is run."""

from dataclasses import asdict, dataclass

from memoir.checks import inputs


@dataclass(frozen=True)
class Stream:
    """What is run: records of `dataset` edited in order, and evaluated on all so far after each of `at` edits.

    first: where in the data set the stream begins. every: edits between checkpoints. asked: at most so many of the
    records are asked about after each of `at`, evenly spread (None: all). generated: generated answers are asked of at
    most so many of these. untouched: so many facts that are never edited (openfacts-locality) are asked too. batch: so
    many edits are written at once. order: the records in another order, drawn with this seed (0: as they are) from so
    many of them as `among` says, from `first` on (None: all).
    """

    profile: str
    experiment: str
    run: str
    dataset: str
    at: tuple[int, ...]
    first: int = 0
    every: int = 50
    generated: int | None = None
    untouched: int = 0
    asked: int | None = None
    batch: int = 1
    order: int = 0
    among: int | None = None

    def described(self) -> dict:
        """The fields, as a result file holds them; those that files of before have not only where they are not as
        usual."""
        usual = {"asked": None, "batch": 1, "order": 0, "among": None}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}

    def __post_init__(self):
        if not self.at or list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at = {self.at} must be growing numbers of edits.")
        for name, low in (("first", 0), ("every", 1), ("untouched", 0), ("batch", 1), ("order", 0)):
            inputs.as_int(getattr(self, name), name, low)
        for name, value in (("at[0]", self.at[0]), ("generated", self.generated), ("asked", self.asked)):
            if value is not None:
                inputs.as_int(value, name, 1 if name == "at[0]" else 0)
