// What the ranking page does in the browser: the page, its keys and its mouse. Texts are set as text, never as HTML.
(() => {
  const LETTERS = 'ABCDEF', {whole, rank, without, append, place, toggle} = ranking.orders
  let root, store, words, language, dimensions, items = [], at = 0, active = 0, tie = false, dragged = null

  const say = (name, values = {}) => words[language][name].replace(/{(\w+)}/g, (_, key) => values[key])
  const find = id => document.getElementById(id)
  const make = (tag, props = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), props)
    made.append(...children)
    return made
  }
  const button = (id, text, click, props = {}) => make('button', {id, type: 'button', textContent: text, ...props,
    onclick: event => {
      if (event.detail) event.currentTarget.blur()  // after the mouse, space and Enter must not press it again
      click()
    }})

  const item = () => items[at], size = () => item().answers.length
  const order = name => store.order(item(), name), full = name => whole(order(name), size())
  const done = one => dimensions.every(name => store.truth(one, name).length)
  const choose = (i, groups) => {
    active = i
    tie = false
    if (groups) store.enter(item(), dimensions[i], groups)
    else paint()
  }
  const press = (name, letter) => {  // number it as the next, or take it back; a whole order leads on to the next dimension
    const i = dimensions.indexOf(name), known = rank(order(name), letter)
    choose(i, known ? without(order(name), letter) : append(order(name), letter, tie && i == active))
    const next = [1, 2, 3, 4].map(n => (i + n) % 5).find(j => !full(dimensions[j]))
    if (full(name) && next !== undefined) choose(next)
    find(dimensions[active]).scrollIntoView({block: 'nearest'})
  }

  const begin = async (code, trouble = null) => {
    try {
      const before = store.rater ? item().question_id : store.recall('at'), reply = await store.begin(code)
      const stay = reply.rater == (store.rater || store.recall('rater'))  // a reload comes back to the question it left
      items = reply.items
      store.rater = reply.rater
      store.keep('rater', reply.rater)
      store.problem = trouble
      const left = items.findIndex(one => one.question_id == before)
      show(stay && left >= 0 ? left : unfinished(items.length - 1))
      store.send()
    } catch (error) {
      store.problem = error
      paint()
      setTimeout(() => find('code').value == code && begin(code), store.PAUSE)
    }
  }
  const changed = async (error, {question_id, note}) => {  // an order of other answers is void, a note is not
    await begin(store.rater, error)
    const one = items.find(one => one.question_id == question_id)
    if (one && note !== undefined) store.write(one, note)
    build()
  }
  const refresh = async () => {  // another window may have gone on with the same code
    if (!document.hidden && store.rater) await store.begin(store.rater).then(paint, () => {})
  }
  const unfinished = after => {
    const around = items.map((_, i) => (after + 1 + i) % items.length)
    return around.find(i => !done(items[i])) ?? Math.min(after, items.length - 1)
  }

  // --- the page
  const show = i => {
    at = i
    store.keep('at', item().question_id)
    active = Math.max(dimensions.findIndex(name => !full(name)), 0)
    tie = false
    build()
    window.scrollTo(0, 0)
  }
  const move = step => { if (items[at + step]) show(at + step) }

  const build = () => {  // everything that changes only with the question or the language
    const one = item(), text = words[language], list = lines => lines.map(line => make('p', {textContent: line}))
    root.lang = language == 'zh' ? 'zh-CN' : 'en'
    document.title = text.title
    const code = make('input', {id: 'code', value: store.rater, placeholder: text.code, maxLength: 40, autocomplete: 'off',
      onchange: () => code.value.trim() && begin(code.value)})
    code.setAttribute('aria-label', text.code)
    root.replaceChildren(
      make('header', {className: store.rater ? '' : 'new'}, code, make('span', {id: 'progress'}), make('span', {id: 'finished'}),
        button('previous', text.previous, () => move(-1)), button('next', text.next, () => move(1)),
        button('unfinished', text.unfinished, () => show(unfinished(at))),
        button('language', text.other, () => {
          language = language == 'zh' ? 'en' : 'zh'
          store.keep('language', language)
          build()
        })),
      make('nav', {id: 'map'}), make('p', {id: 'notice', role: 'alert'}),
      make('div', {id: 'explained'}, ...['intro', 'help'].map(name => make('details', {id: name, open: !store.rater},
        make('summary', {textContent: text[name + '_title']}), ...list(text[name])))),
      store.rater ? make('main', {},
        make('div', {id: 'asked'}, make('h2', {id: 'number', textContent: say('question', {n: at + 1})}),
          make('div', {id: 'question', textContent: one.question, tabIndex: 0}),
          make('div', {id: 'answers'}, ...one.answers.map((answer, i) => make('section', {className: 'answer'},
            make('h3', {}, button('answer-' + LETTERS[i], LETTERS[i], () => press(dimensions[active], LETTERS[i]),
              {title: say('answer', {letter: LETTERS[i]})}), make('span', {id: 'place-' + LETTERS[i]})),
            make('div', {className: answer.trim() ? 'text' : 'text empty', textContent: answer.trim() ? answer : text.empty,
              tabIndex: 0}))))),
        make('aside', {}, make('div', {id: 'dimensions'}),
          make('textarea', {id: 'note', placeholder: text.note, rows: 2, maxLength: 5000, value: store.note(one),
            onblur: () => store.written(one, dimensions), oninput: event => store.write(one, event.target.value)}),
          make('p', {id: 'noted'}))) :
        make('p', {id: 'start', textContent: text.start}))
    if (!store.rater) code.focus()
    paint()
  }

  const state = name => {  // [class, words] about a dimension
    const own = store.draft(item(), name), before = store.truth(item(), name).length
    if (!own) return before ? ['saved', say('saved')] : ['none', say('none')]
    if (!own.length && !before) return ['none', say('none')]
    if (!full(name)) return ['partial', say(before ? 'left_after' : 'left', {n: size() - own.flat().length})]
    return store.problem ? ['failed', say('failed')] : ['saving', say('saving')]
  }
  const chip = (name, letter) => {
    const made = button(`${name}-order-${letter}`, letter, () => press(name, letter), {className: 'chip', draggable: true})
    return Object.assign(made, {
      ondragstart: event => {
        dragged = {name, letter}
        event.dataTransfer.setData('text/plain', letter)
      },
      ondragend: () => {
        dragged = null
        paint()
      }})
  }
  const half = (event, element) => {  // before (0) or after (1) this chip
    const {left, width} = element.getBoundingClientRect()
    return +(event.clientX > left + width / 2)
  }
  const strip = (name, groups) => {
    const chips = groups.flatMap((group, g) => group.flatMap((letter, i) => {
      const tied = i < group.length - 1, last = !tied && g == groups.length - 1
      const sign = button(`${name}-sign-${letter}`, tied ? '=' : '>',
        () => choose(dimensions.indexOf(name), toggle(groups, letter)), {className: 'sign', title: say(tied ? 'tied' : 'better')})
      return last ? [chip(name, letter)] : [chip(name, letter), sign]
    }))
    if (tie && name == dimensions[active]) chips.push(make('span', {className: 'sign', textContent: '='}))
    const target = event => event.target.closest('.chip')
    return make('div', {className: 'order',
      ondragover: event => {
        if (dragged?.name != name) return
        event.preventDefault()
        for (const one of root.querySelectorAll('.chip')) one.classList.remove('before', 'after')
        target(event)?.classList.add(half(event, target(event)) ? 'after' : 'before')
      },
      ondrop: event => {
        if (dragged?.name != name) return
        event.preventDefault()
        const {letter} = dragged, chip = target(event), to = chip?.textContent
        dragged = null
        choose(dimensions.indexOf(name),
          to == letter ? groups : place(groups, letter, to, chip ? half(event, chip) : 1))
      }}, ...(chips.length ? chips : [make('span', {className: 'hint', textContent: say('hint')})]))
  }

  const paint = () => {  // everything that changes with an order
    if (dragged) return  // what is dragged must stay in the page
    find('notice').textContent = store.problem ? say(store.problem.problem, store.problem) : ''
    if (!store.rater) return
    const focused = document.activeElement?.id, finished = items.filter(done).length
    find('progress').textContent = say(finished == items.length ? 'all_done' : 'progress', {done: finished, all: items.length})
    find('previous').disabled = !at
    find('next').disabled = at == items.length - 1
    find('map').replaceChildren(...items.map((one, i) => button(`go-${i + 1}`, i + 1, () => show(i),
      {className: (done(one) ? 'done' : '') + (i == at ? ' here' : '')})))
    find('dimensions').replaceChildren(...dimensions.map((name, i) => {
      const [label, asks] = words[language].dimensions[name], groups = order(name), [kind, status] = state(name)
      return make('section', {id: name, className: i == active ? 'active' : '',
        onclick: event => {
          if (!event.target.closest('button') && i != active) choose(i)
        }},
        make('div', {className: 'head'}, make('kbd', {textContent: i + 1}), make('b', {textContent: label}),
          make('span', {className: 'status ' + kind, textContent: status})),
        make('p', {textContent: asks}),
        make('div', {className: 'letters'}, ...item().answers.map((_, j) => {
          const letter = LETTERS[j], number = rank(groups, letter)
          const made = button(`${name}-${letter}`, letter, () => press(name, letter), {className: number ? 'ranked' : ''})
          if (number) made.append(make('sup', {textContent: number}))
          return made
        })), strip(name, groups))
    }))
    item().answers.forEach((_, j) => {
      const number = rank(order(dimensions[active]), LETTERS[j]), [label] = words[language].dimensions[dimensions[active]]
      find('place-' + LETTERS[j]).textContent = number ? `${label} ${number}` : ''
    })
    find('noted').textContent = store.waits(item()) ? say('note_waits') : store.note(item()) ? say('saved') : ''
    find('finished').textContent = done(item()) && !store.dirty(item()) && at < items.length - 1 ? say('finished') : ''
    find(focused)?.focus({preventScroll: true})
  }

  const pressed = event => {
    const typing = event.target.matches('textarea, input')
    if (event.isComposing && typing) return  // a Chinese input method is at work
    // without a box to write into, such a method hides the letter but not the key
    const key = event.key == 'Process' ? event.code.replace(/^(Key|Digit)/, '') : event.key
    if (typing && (key == 'Escape' || key == 'Enter' && event.target.id == 'code')) event.target.blur()
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !store.rater) return
    const name = dimensions[active], letter = key.toUpperCase()
    if (key == ' ' && !event.target.closest('button, summary')) event.preventDefault()
    else if (key == 'j' || key == 'k') move(key == 'j' ? 1 : -1)
    else if (dimensions[key - 1]) {
      choose(key - 1)
      find(dimensions[active]).scrollIntoView({block: 'nearest'})
    } else if (letter.length == 1 && LETTERS.slice(0, size()).includes(letter)) press(name, letter)
    else if (key == 'Backspace' && order(name).length) choose(active, without(order(name), order(name).flat().at(-1)))
    else if (key == '=' || key == 'Escape') {
      tie = key == '=' && order(name).length > 0 && !full(name)
      paint()
    } else if (key == 'n') {
      event.preventDefault()
      find('note').focus()
    }
  }

  ranking.start = (element, server, props) => {
    [root, words, dimensions] = [element, props.words, props.dimensions]
    store = ranking.store(server, paint, changed)
    language = store.recall('language') || props.language
    build()
    document.addEventListener('keydown', pressed)
    document.addEventListener('visibilitychange', refresh)
    window.addEventListener('beforeunload', event => { if (store.unsaved() && !store.leaving) event.preventDefault() })
    if (find('code').value = store.recall('rater') || '') begin(find('code').value)
  }
})()
