"""The live view as it stands at the end, as an SVG: for reports, bug reports and the README."""

import io
from pathlib import Path

from rich.console import Console

from edge.messages import Message
from edge.monitor import Item, Monitor
from edge.screen import ScreenDisplay
from firmware_bridge.errors import BadInput

COLUMNS, ROWS = 104, 20


class Picture:
    """Sees what a display sees; :meth:`save` writes the picture. Raises :class:`BadInput` if it cannot be written."""

    def __init__(self, monitor: Monitor, path: str) -> None:
        self._path = Path(path)
        self._console = Console(width=COLUMNS, height=ROWS, file=io.StringIO(), record=True, color_system="truecolor")
        unseen = Console(width=COLUMNS, height=ROWS, file=io.StringIO())
        self._view = ScreenDisplay(monitor, unseen)
        try:
            self._path.touch()
        except OSError as error:
            raise BadInput(f"--picture {path}: cannot be written ({error.strerror}); choose another file") from None

    def see(self, lines: list[Message], item: Item | None) -> None:
        """One item and its lines."""
        self._view.lines(lines)
        if item is not None:
            self._view.item(item)

    def save(self) -> None:
        """Write the SVG."""
        self._console.print(self._view.render())
        try:
            self._path.write_text(self._console.export_svg(title="pulsecode monitor", unique_id="pulsecode"))
        except OSError as error:
            raise BadInput(f"--picture {self._path}: cannot be written ({error.strerror})") from None
