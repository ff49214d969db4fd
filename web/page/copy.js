// Text to carry elsewhere, and a button beside it that copies it.

/** Shows an address that breaks after its slashes where it must. */
export function showAddress(element, url) {
  element.replaceChildren(...url.split(/(?<=[^/:]\/)/).flatMap((part) => [part, document.createElement('wbr')]));
}

/** Adds a button to box that copies what element shows. */
export function addCopy(box, element, label) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'copy';
  button.textContent = 'Copy';
  button.setAttribute('aria-label', `Copy ${label}`);
  let reset;
  button.addEventListener('click', async () => {
    const ok = await copy(element);
    button.textContent = ok ? 'Copied' : 'Selected';
    button.toggleAttribute('data-done', ok);
    clearTimeout(reset);
    reset = setTimeout(() => {
      button.textContent = 'Copy';
      button.removeAttribute('data-done');
    }, 2000);
  });
  box.append(button);
}

/** Without TLS there is no clipboard API: the text is selected, and copied the old way where that works. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    const selection = getSelection();
    selection.selectAllChildren(element);
    const ok = document.execCommand?.('copy') ?? false;
    if (ok) selection.removeAllRanges();
    return ok;
  }
}
