"use strict";

// --- light and dark ---

const root = document.documentElement;
const theme = document.getElementById("theme");
const isDark = () =>
  root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const nameTheme = () => { theme.textContent = isDark() ? theme.dataset.light : theme.dataset.dark; };
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
nameTheme();

// --- sorting: a head's button sorts by its column, up, then down, then as written ---

const valueOf = (row, column) => {
  const cell = row.cells[column];
  const number = cell.dataset.value;
  return number === undefined ? cell.textContent : number === "" ? null : Number(number);
};
const compare = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const written = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    const sorted = next === "none" ? written : [...written].sort((p, q) => {
      const [a, b] = [valueOf(p, column), valueOf(q, column)];
      if (a === null || b === null) return (a === null) - (b === null);  // undefined last, either way
      return sign * compare(a, b);
    });
    body.append(...sorted);
  }));
}

// --- the numbers of figures: by pointer, or by arrow keys ---

const tip = document.getElementById("tip");
const show = (mark) => {
  mark.ownerSVGElement.querySelector(".on")?.classList.remove("on");
  mark.classList.add("on");
  tip.textContent = mark.dataset.text;
  tip.hidden = false;
  const at = mark.getBoundingClientRect();
  const wide = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(at.right + 6, innerWidth - wide.width - 8)) + "px";
  tip.style.top = Math.max(4, at.top - wide.height - 4) + "px";
};
const hide = (svg) => {
  svg.querySelector(".on")?.classList.remove("on");
  tip.hidden = true;
};

for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [...svg.querySelectorAll(".mark")];
  marks.forEach((mark) => {
    mark.addEventListener("pointerenter", () => show(mark));
    mark.addEventListener("pointerleave", () => hide(svg));
  });
  svg.addEventListener("blur", () => hide(svg));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide(svg);
    if (!step || !marks.length) return;
    event.preventDefault();
    const now = marks.findIndex((mark) => mark.classList.contains("on"));
    const next = marks[now < 0 ? (step > 0 ? 0 : marks.length - 1) : (now + step + marks.length) % marks.length];
    next.scrollIntoView({ block: "nearest", inline: "nearest" });  // on a narrow screen figures scroll
    show(next);
  });
}
