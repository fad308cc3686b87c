// Runs before the first paint: what main.js would set too late. Classic, since modules wait.
try {
  const theme = localStorage.getItem("homeswarm.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden: then the system's theme it is.
}
