"use strict";
const tip = document.getElementById("tip");
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest && event.target.closest("svg.chart [data-said]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.said;
  const left = Math.min(event.clientX + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const text = button.parentElement.querySelector("pre");
    const done = () => { button.textContent = "Copied"; };
    const select = () => {
      getSelection().selectAllChildren(text);
      if (document.execCommand("copy")) done();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(text.textContent).then(done, select);
    else select();
  });
}
