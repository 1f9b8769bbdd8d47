"use strict";
// Everything can be read without this; it keeps the page up to date and adds a filter and a theme.
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const kept = () => { try { return localStorage.getItem("assay-theme"); } catch { return null; } };
  if (kept()) root.dataset.theme = kept();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("assay-theme", root.dataset.theme); } catch { /* private window */ }
  });

  const field = document.getElementById("filter");
  const filter = () => {
    if (!field) return;
    const wanted = field.value.trim().toLowerCase();
    let shown = 0;
    const rows = document.querySelectorAll('[data-table="devices"] > tr');
    for (const row of rows) {
      row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
      if (!row.hidden) shown += 1;
    }
    document.getElementById("filter-count").textContent = wanted ? `${shown} of ${rows.length}` : "";
  };
  if (field) {
    document.getElementById("filter-line").hidden = false;
    field.addEventListener("input", filter);
  }

  const put = (body, change) => {
    const only = "only" in body.dataset;
    const focused = document.activeElement && document.activeElement.closest("tr");
    const focusedId = focused ? focused.id : "";
    for (const [id, html] of Object.entries(change.rows)) {
      const old = document.getElementById(id);
      if (!old && only) continue;
      const made = document.createElement("tbody");
      made.innerHTML = html;
      const row = made.firstElementChild;
      if (old && old.outerHTML === row.outerHTML) continue;
      row.classList.add("changed");
      setTimeout(() => row.classList.remove("changed"), 1200);
      if (old) old.replaceWith(row); else body.append(row);
      if (focusedId === id) row.querySelector("a")?.focus();
    }
    for (const id of change.gone) if (!only) document.getElementById(id)?.remove();
    if (only) return;
    let place = body.firstElementChild;
    for (const id of change.order) {
      const row = document.getElementById(id);
      if (!row) continue;
      if (row === place) place = place.nextElementSibling;
      else body.insertBefore(row, place);
    }
  };

  const bodies = [...document.querySelectorAll("[data-table]")];
  const link = document.getElementById("link");
  if (!bodies.length) { link.textContent = ""; return; }
  const events = new EventSource("/events");
  // A page that is left must not keep one of the browser's few connections to this host.
  addEventListener("pagehide", () => events.close());
  events.addEventListener("open", () => { link.textContent = "live"; });
  events.addEventListener("error", () => { link.textContent = "the controller does not answer"; });
  events.addEventListener("change", (event) => {
    const change = JSON.parse(event.data);
    for (const body of bodies) {
      const table = change.tables[body.dataset.table];
      if (table) put(body, table);
    }
    for (const [name, value] of Object.entries(change.counts)) {
      const place = document.querySelector(`[data-count="${name}"]`);
      if (place) place.textContent = value;
    }
    filter();
  });
})();
