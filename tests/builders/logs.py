"""What a test wrote to its log."""

import io

import pytest


class Lines:
    """All that was written to standard error, and what other libraries logged."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""
        self.others = io.StringIO()

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text + self.others.getvalue()
