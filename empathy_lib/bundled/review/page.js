// What the review page does in the browser: the keys, the rater's name, and drafts. What is typed and not saved outlives
// a reload of the window (Gradio reloads it when a lost server is back). Some notebooks forbid storage, hence the catches.
(() => {
  const PARTS = ['L1', 'L2', 'L3', 'L4', 'answer'], body = () => document.body.dataset
  const find = id => document.getElementById(id), press = id => find(id).click()
  const key = given => 'draft ' + [given.rater, given.question_id, given.part]

  const choose = (part, scroll) => {
    body().part = part
    if (scroll) find('part-' + part).scrollIntoView({block: 'nearest', behavior: 'smooth'})
  }

  const pressed = event => {
    if (event.isComposing) return  // a Chinese input method is at work
    const typing = event.target.matches('textarea, input'), part = body().part, letter = event.key.toLowerCase()
    if (typing && (letter == 'escape' || letter == 'enter' && event.target.closest('#rater'))) event.target.blur()
    if (letter == 'enter' && (event.ctrlKey || event.metaKey) && event.target.closest('.text')) press('edit-' + part)
    // no key between two chains: it would go to the one that is about to leave
    if (typing || event.ctrlKey || event.metaKey || event.altKey || body().moving) return
    if (letter == 'j' || letter == 'k') press(letter == 'j' ? 'next' : 'previous')
    else if (letter >= '1' && letter <= '5' && letter.length == 1) choose(PARTS[letter - 1], true)
    else if (letter == 'a' || letter == 'r') {
      press((letter == 'a' ? 'accept-' : 'reject-') + part)
      choose(PARTS[Math.min(PARTS.indexOf(part) + 1, 4)], true)
    } else if (letter == 'e' || letter == 'n') {
      event.preventDefault()
      find((letter == 'e' ? 'text-' : 'note-') + part).querySelector('textarea, input').focus()
    }
  }

  const draft = (text, note, given) => {
    try {
      if (text == given.text && note == given.note) sessionStorage.removeItem(key(given))
      else sessionStorage.setItem(key(given), JSON.stringify([text, note]))
    } catch { }
  }

  window.review = {
    start(name, ...rest) {  // runs once; the name as this window, or the last one, had it
      const move = () => { body().moving = true }
      for (const id of ['previous', 'next', 'undecided']) find(id).addEventListener('click', move)
      find('rater').addEventListener('focusout', move)
      document.addEventListener('keydown', pressed)
      document.addEventListener('focusin', event => {
        const part = event.target.closest('.part')
        if (part) choose(part.id.slice(5))
      })
      try { name = sessionStorage.rater || localStorage.rater || '' } catch { }
      return [name, ...rest]
    },
    keepName(name) { try { sessionStorage.rater = localStorage.rater = name } catch { } },
    draft,
    typed(...values) { if (document.activeElement.matches('.part textarea, .part input')) draft(...values) },
    arrive(...values) {  // a chain is shown: text, note and given of each part
      if (body().chain != values[2].question_id) {
        body().chain = values[2].question_id
        body().part = 'L1'
        window.scrollTo(0, 0)
      }
      delete body().moving
      return [0, 3, 6, 9, 12].flatMap(i => {
        const [text, note, given] = values.slice(i, i + 3)
        try { return JSON.parse(sessionStorage.getItem(key(given))) || [text, note] } catch { return [text, note] }
      })
    }
  }
})()
