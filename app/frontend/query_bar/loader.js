// What Streamlit sends at each run: loads the query bar's module, which the browser keeps by its address.
export default function (component) {
  const { data, parentElement } = component;
  const host = parentElement.querySelector(".gq-host");
  // Runs that come while the module is on its way are not answered in their order: the newest is shown.
  host.__newest = component;
  let gone = false;
  let cleanUp = null;
  import(new URL(data.module, window.location.origin).href).then((module) => {
    if (!gone) cleanUp = module.show(host.__newest, host);
  });
  return () => {
    gone = true;
    if (cleanUp) cleanUp();
  };
}
