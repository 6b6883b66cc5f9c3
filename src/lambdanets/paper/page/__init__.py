"""One self-contained web page: all tables with ours beside the published, figures, and runs."""
