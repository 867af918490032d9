// What Streamlit sends at each run: loads the viewer's module, which the browser keeps by its address.
export default function (component) {
  const { data, parentElement } = component;
  let gone = false;
  let cleanUp = null;
  import(new URL(data.module, window.location.origin).href).then((module) => {
    if (!gone) cleanUp = module.show(component, parentElement.querySelector(".si-host"));
  });
  return () => {
    gone = true;
    if (cleanUp) cleanUp();
  };
}
