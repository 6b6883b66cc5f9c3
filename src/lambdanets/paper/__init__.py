"""The tables and the figure of the paper, ours beside the published, as text, CSV, JSON and a web page."""
