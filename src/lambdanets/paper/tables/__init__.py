"""The paper's tables with ours beside the published, each number with how it was obtained."""
