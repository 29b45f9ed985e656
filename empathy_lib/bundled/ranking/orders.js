// Orders of letters, from the best to the worst, tied ones together: [['C'], ['A', 'B']]. No function changes its input.
(window.ranking ||= {}).orders = (() => {
  const of = (groups, letter) => groups.findIndex(group => group.includes(letter))
  const clean = groups => groups.filter(group => group.length).map(group => [...group].sort())
  const without = (groups, letter) => clean(groups.map(group => group.filter(other => other != letter)))
  return {
    whole: (groups, n) => groups.flat().length == n,
    rank: (groups, letter) => of(groups, letter) < 0 ? 0 : groups.slice(0, of(groups, letter)).flat().length + 1,
    without,
    append: (groups, letter, tied) =>
      clean(tied ? [...groups.slice(0, -1), [...groups.at(-1) || [], letter]] : [...groups, [letter]]),

    place(groups, letter, target, after) {  // before (0) or after (1) a letter, inside a tie with it; no target: last
      const rest = without(groups, letter), i = of(rest, target)
      if (i < 0) rest.push([letter])
      else if (target == rest[i].at(after ? -1 : 0)) rest.splice(i + after, 0, [letter])
      else rest[i].push(letter)
      return clean(rest)
    },
    toggle(groups, letter) {  // the sign after this letter: a tie there, or none any more
      const i = of(groups, letter), group = groups[i], cut = group.indexOf(letter) + 1
      const parts = cut < group.length ? [group.slice(0, cut), group.slice(cut)] : [[...group, ...groups[i + 1] || []]]
      return clean([...groups.slice(0, i), ...parts, ...groups.slice(i + (parts.length > 1 ? 1 : 2))])
    }
  }
})()
