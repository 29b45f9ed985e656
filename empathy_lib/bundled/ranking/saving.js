// Saving orders. Two things are kept apart: `saved`, what the server said is in its file, and `drafts`, what the rater
// entered and the server has not confirmed. A draft is complete in itself (rater, question, digest of what was shown),
// outlives a reload, and is sent again until it is confirmed. Both are kept by that digest: other answers, or another
// rater, have another. Some notebooks forbid storage, hence the catches.
(window.ranking ||= {}).store = (server, paint, changed) => {
  const PAUSE = 2000, {whole} = ranking.orders
  const recall = name => { try { return JSON.parse(sessionStorage.getItem('ranking ' + name)) } catch { } }
  const keep = (name, value) => { try { sessionStorage.setItem('ranking ' + name, JSON.stringify(value)) } catch { } }
  const saved = {}, drafts = recall('drafts') || {}
  let doubt = false, busy = false, chain = Promise.resolve()

  // one call at a time, so that what the server says last is what holds
  const call = (name, data) => chain = chain.catch(() => {}).then(() => server[name](data)).then(reply => {
    if (!reply) throw {problem: 'lost'}  // Gradio's client swallows what went wrong
    if (reply.problem) throw reply
    for (const one of reply.items || []) saved[one.shown] = {orders: one.orders, note: one.note}
    return reply
  })
  const truth = (one, name) => saved[one.shown].orders[name] || []
  const forget = shown => {
    delete drafts[shown]
    keep('drafts', drafts)
  }
  const tidy = shown => {  // forget of a draft what is saved
    const one = drafts[shown], {orders, note} = saved[shown]
    if (one.note == note) delete one.note
    const again = one.note !== undefined && one.final  // the note was finished while an order was on its way without it
    for (const name in one.orders)
      if (!again && JSON.stringify(one.orders[name]) == JSON.stringify(orders[name])) delete one.orders[name]
    if (one.note === undefined && !Object.keys(one.orders).length) delete drafts[shown]
    keep('drafts', drafts)
  }
  const unsaved = () => {
    for (const [shown, one] of Object.entries(drafts))
      for (const [name, groups] of Object.entries(one.orders)) if (whole(groups, one.n)) return {shown, name, one, groups}
  }
  const reachable = async () => { try { return (await fetch(location.href)).ok } catch { return false } }
  const draft = one => drafts[one.shown] ||= {rater: store.rater, question_id: one.question_id, n: one.answers.length, orders: {}}

  const send = async () => {
    if (busy) return
    busy = true
    for (let job; job = unsaved(); paint()) {
      const {shown, name, one, groups} = job, order = groups
      try {
        if (doubt || !saved[shown]) {  // perhaps it was stored, and only the word of it was lost
          await call('begin', one.rater)
          if (!saved[shown]) throw {problem: 'changed'}
        } else {
          const note = one.note ?? saved[shown].note
          await call('save', {rater: one.rater, question_id: one.question_id, shown, dimension: name, order, note})
          Object.assign(saved[shown], {note, orders: {...saved[shown].orders, [name]: order}})
        }
        if (drafts[shown]) tidy(shown)
        doubt = false
        store.problem = null
      } catch (error) {
        store.problem = error
        if (error.problem == 'changed') {  // these letters stand for other answers by now
          forget(shown)
          if (one.rater == store.rater) await changed(error, one)
          continue
        }
        paint()
        // a server that is there but does not know this page is a new one: load its page, the drafts stay
        if (error.problem == 'lost' && doubt && await reachable()) {
          store.leaving = true
          return location.reload()
        }
        await new Promise(resolve => setTimeout(resolve, PAUSE))
        doubt = true
      }
    }
    busy = false
  }

  const store = {
    recall, keep, truth, send, unsaved, PAUSE, rater: '', problem: null, leaving: false,
    async begin(code) {
      const reply = await call('begin', code)
      Object.keys(drafts).filter(shown => saved[shown]).forEach(tidy)
      return reply
    },
    draft: (one, name) => drafts[one.shown]?.orders[name],
    order: (one, name) => drafts[one.shown]?.orders[name] || truth(one, name),
    note: one => drafts[one.shown]?.note ?? saved[one.shown].note,
    waits: one => drafts[one.shown]?.note !== undefined,
    dirty: one => one.shown in drafts,
    enter(one, name, groups) {
      draft(one).orders[name] = groups
      keep('drafts', drafts)
      paint()
      send()
    },
    write(one, text) {  // a note goes with every order that is saved from now on
      Object.assign(draft(one), {note: text.trim(), final: false})
      keep('drafts', drafts)
      paint()
    },
    written(one, names) {  // the note is left: unless a whole order is on its way, one that is saved is saved again with it
      const mine = drafts[one.shown], name = names.find(name => truth(one, name).length && !mine?.orders[name])
      if (mine?.note === undefined) return
      mine.final = true
      if (name && !Object.values(mine.orders).some(groups => whole(groups, mine.n))) store.enter(one, name, truth(one, name))
    }
  }
  return store
}
