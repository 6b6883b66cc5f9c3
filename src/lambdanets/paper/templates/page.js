"use strict";
// Buttons in the headings sort the rows: upwards, downwards, and back to the order of the paper.

const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

// Numbers come first, then words; cells without anything are last in either direction.
function sortKey(row, column) {
  const cell = row.cells[column];
  const text = (cell.dataset.sort ?? cell.textContent).trim();
  if (text === "") return { rank: 2, value: 0 };
  const number = Number(text);
  return Number.isNaN(number) ? { rank: 1, value: text } : { rank: 0, value: number };
}

function compare(left, right, sign) {
  if (left.rank !== right.rank) return left.rank - right.rank;
  if (left.rank === 1) return sign * left.value.localeCompare(right.value, "en", { numeric: true });
  return sign * (left.value - right.value);
}

function sortBy(table, button, original) {
  const heading = button.closest("th");
  const order = NEXT[heading.getAttribute("aria-sort")];
  for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", order);
  let rows = original;
  if (order !== "none") {
    const sign = order === "ascending" ? 1 : -1;
    const column = Number(button.dataset.column);
    const keyed = original.map((row) => ({ row, key: sortKey(row, column) }));
    rows = keyed.sort((left, right) => compare(left.key, right.key, sign)).map((one) => one.row);
  }
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  const original = [...table.tBodies[0].rows];
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sortBy(table, button, original));
  }
}
document.documentElement.classList.add("sortable");
// A long list of contents would fill the first screen of a phone.
if (window.matchMedia("(max-width: 72rem)").matches) document.querySelector("nav details").open = false;
