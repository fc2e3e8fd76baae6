"""The fidelity report as files: one content (:mod:`quantize.report.tables`), drawn as Markdown, HTML and a plot."""

from quantize.report.files import FILES, files

__all__ = ["FILES", "files"]
