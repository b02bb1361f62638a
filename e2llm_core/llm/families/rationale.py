"""How an answer with a rationale is written and read back: between think tags, or before a last line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ThinkTags:
    """The rationale is in a think block, which may be empty; the answer follows.

    Attributes
    ----------
    start, end
        The tags; no rationale and no answer may contain them.
    """

    start: str = "<think>"
    end: str = "</think>"
    before_answer = ""
    """What separates an answer from the rationale."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens that a tokenizer has for this form."""
        return self.start, self.end

    @property
    def reserved(self) -> tuple[str, ...]:
        """Texts by which the form is recognised."""
        return self.start, self.end

    @property
    def opening(self) -> str:
        """What some templates put at a prompt's end to force a rationale; here it belongs to the answer."""
        return f"{self.start}\n"

    def write(self, rationale: str) -> str:
        """Write a rationale, or its absence, up to where the answer begins."""
        return f"{self.start}\n{rationale}\n{self.end}\n\n"

    def read(self, text: str) -> tuple[str | None, str]:
        """Split text into rationale, None if empty, and answer, which is empty if the block was never closed."""
        before, closed, after = text.rpartition(self.end)
        if closed:
            return before.replace(self.start, "").strip() or None, after.strip()
        if self.start in text:
            return text.split(self.start, 1)[1].strip() or None, ""
        return None, text.strip()

    def forget(self, content: str) -> str:
        """Leave the rationale of an earlier answer out."""
        return content.rpartition(self.end)[2].lstrip("\n")


@dataclass(frozen=True)
class AnswerLine:
    r"""For models without think tags: the rationale is plain text, and the last line gives the answer.

    ``Alpha is low.\nAnswer: sad`` with a rationale, ``Answer: sad`` without.

    Attributes
    ----------
    mark
        Begins the last line; no rationale and no answer may contain it.
    """

    mark: str = "Answer:"
    before_answer = " "
    """What separates an answer from the mark: in byte-level tokenizers a space belongs to the word after it."""
    tokens: tuple[str, ...] = ()
    """Tokens that a tokenizer has for this form."""
    opening = ""
    """No template forces a rationale."""

    @property
    def reserved(self) -> tuple[str, ...]:
        """Texts by which the form is recognised."""
        return (self.mark,)

    def write(self, rationale: str) -> str:
        """Write a rationale, or its absence, up to where the answer begins."""
        return f"{rationale}\n{self.mark}" if rationale else self.mark

    def read(self, text: str) -> tuple[str | None, str]:
        """Split text into rationale, None if there is none, and answer: all of the text where no line is marked."""
        before, _, after = text.rpartition(self.mark)
        return before.strip() or None, after.strip()

    def forget(self, content: str) -> str:
        """Leave the rationale of an earlier answer out."""
        _, mark, answer = content.rpartition(self.mark)
        return mark + answer
