"""The report: one HTML page for each image and one for the run, each of which stands by itself, in any browser.

Knows nothing of pytest: what was checked comes in as rows, what was built as a manifest.
"""

from pipeline.report.page import Outcome, Page, Row, State
from pipeline.report.run import Part, Run, shortened
from pipeline.report.template import render

__all__ = ["Outcome", "Page", "Part", "Row", "Run", "State", "render", "shortened"]
