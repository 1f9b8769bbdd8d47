
"use strict";
// Everything can be read without this; it adds sorting, a theme switch and tooltips.
(() => {
  const root = document.documentElement;

  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const value = (row, column) => {
    const cell = row.cells[column];
    const key = cell.dataset.sort;
    if (key !== undefined) return Number(key);
    return cell.classList.contains("num") ? null : cell.textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  const sort = (table, header, column) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    // What has no value stays last either way.
    rows.sort(([a], [b]) =>
      a === null || b === null ? (a === null) - (b === null) : compare(a, b) * (down ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      if (header.dataset.nosort !== undefined) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, header, column));
    });
  }

  const tip = document.getElementById("tip");
  const light = (key, on) => {
    for (const one of document.querySelectorAll(`[data-row="${key}"]`)) one.classList.toggle("lit", on);
  };
  const show = (point) => {
    const said = point.getAttribute("aria-label");
    const cut = said.indexOf(":");
    const name = document.createElement("b");
    name.textContent = said.slice(0, cut);
    tip.replaceChildren(name, document.createElement("br"), said.slice(cut + 2));
    tip.hidden = false;
    const at = point.getBoundingClientRect();
    const left = Math.min(at.right + 10, innerWidth - tip.offsetWidth - 8);
    const above = at.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : at.bottom + 8}px`;
    light(point.dataset.row, true);
  };
  const hide = (point) => {
    tip.hidden = true;
    light(point.dataset.row, false);
  };
  for (const point of document.querySelectorAll(".point")) {
    // The drawn tooltip replaces the browser's own.
    point.querySelector("title")?.remove();
    point.addEventListener("pointerenter", () => show(point));
    point.addEventListener("pointerleave", () => hide(point));
    point.addEventListener("focus", () => show(point));
    point.addEventListener("blur", () => hide(point));
  }

  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
