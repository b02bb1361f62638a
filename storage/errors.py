"""The one exception that users see as a single line."""


class InputError(ValueError):
    """A refusal of bad input: where it is, what is wrong, and how to fix it.

    Parameters
    ----------
    place : str
        File, field or resource the problem is in.
    problem : str
        What is wrong there.
    remedy : str
        How the user can fix it.
    """

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        self.place, self.problem, self.remedy = place, problem, remedy
        super().__init__(" ".join(f"{place}: {problem}. {remedy}".split()))

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        return type(self), (self.place, self.problem, self.remedy)
