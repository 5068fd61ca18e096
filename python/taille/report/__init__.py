"""One HTML page that shows what a search found, made from the artefact alone."""

from taille.report.page import write_report

__all__ = ["write_report"]
