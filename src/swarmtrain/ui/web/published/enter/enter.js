// The front door: it takes the token from behind the `#` of the address, where no server sees it, or from a person.

const form = document.getElementById("form");
const field = document.getElementById("token");
const said = document.getElementById("said");

async function enter(token) {
  let answer;
  try {
    answer = await fetch("enter", { method: "POST", body: token });
  } catch {
    said.textContent = "The server of this page does not answer.";
    return;
  }
  if (answer.ok) location.reload();
  else said.textContent = answer.status === 403 ? "This is not the token." : `The server answers ${answer.status}.`;
  field.value = "";
  field.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  said.textContent = "";
  enter(field.value);
});

const told = location.hash.startsWith("#token=") ? location.hash.slice("#token=".length) : "";
if (told) {
  history.replaceState(null, "", location.pathname);
  enter(told);
} else {
  // Who comes by a link on another site has left the cookie behind, and has it from here on.
  const { known } = await (await fetch("enter")).json();
  if (known) location.reload();
}
