"""Print every cell of the paper's tables that is not met, and some tables in full, as Markdown.

python examples/paper_counts.py
"""

from lambdanets.paper.formats import differences, to_markdown
from lambdanets.paper.tables import NUMBERS, table


def main() -> None:
    """Without results of measuring and training: what every machine prints."""
    tables = {number: table(number) for number in NUMBERS}
    compared = sum(table.counts[kind] for table in tables.values() for kind in ("computed", "counted"))
    print(f"{compared} cells are computed or counted. Those that are not the printed ones:\n")
    print(differences(list(tables.values())), end="\n\n")
    print(to_markdown([tables[number] for number in (4, 8, 10, 12, 13)]))


if __name__ == "__main__":
    main()
