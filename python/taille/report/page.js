// Says below a plot what is pointed at, tapped or focused. Without a script the browser's own titles do, but on no phone.
for (const figure of document.querySelectorAll("figure")) {
  const tip = figure.querySelector(".tip");
  const hint = tip.textContent;
  const tell = (event) => {
    const mark = event.target.closest(".mark");
    tip.textContent = mark ? mark.querySelector("title").textContent : hint;
    tip.classList.toggle("told", Boolean(mark));
  };
  for (const kind of ["pointerover", "focusin"]) figure.addEventListener(kind, tell);
}
