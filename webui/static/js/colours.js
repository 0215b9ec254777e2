// Light or dark, as this browser was told on /help. No module: those come after the first paint, which would flash.
{
  const apply = () => {
    let choice = null;
    try {
      choice = localStorage.getItem("warehouse-colours");
    } catch {
      // the browser keeps nothing: as the system has it
    }
    if (choice === "light" || choice === "dark") document.documentElement.dataset.colours = choice;
    else delete document.documentElement.dataset.colours;
  };
  apply();
  addEventListener("storage", apply); // another page was told, or this one by help.js
}
