// The page's address as it is now. Streamlit keeps an address of its own, which does not know of view and lasso:
// the viewer writes these while nothing of the page runs.
export default function here({ parentElement, data, setStateValue }) {
  const url = new URL(window.location.href);
  for (const name of data.without) url.searchParams.delete(name);
  const box = parentElement.querySelector(".here");
  const button = box.querySelector("button");
  box.hidden = !data.shown;
  box.querySelector("code").textContent = url.href;
  button.textContent = "Copy";
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(url.href);
      button.textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(box.querySelector("code")); // not allowed: at least it is marked
    }
  };
  if (data.known !== url.search) setStateValue("search", url.search);
}
