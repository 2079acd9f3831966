// Sets the chosen colours before anything is drawn.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("embedder-theme");
  } catch {
    // Storage may be refused; then the system decides.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
