// Five steps through the demo of diffusion.

/**
 * Each step: a title, what to look at, the state that it sets (the rest is as at the
 * start), and whether the film begins.
 */
export const TOUR = [
  {
    title: "out of the fog",
    text: "300 points begin as pure noise. At each of 50 steps a small network looks at them and says how to remove a little of it; then a bit of fresh noise is added. Drag the step from left to right and back. The decisions fall late: for half of the way you would not guess a ring.",
    state: { at: 0 },
    play: true,
  },
  {
    title: "what the network sees",
    text: "A line leads from each point to the clean point that the network believes in. Early on all lines end near the centre: where noise is all there is, the average of the data is the best guess. Move on by ten steps, and the guesses spread out to the spots.",
    state: { at: 12, lines: "guesses" },
  },
  {
    title: "the same way twice",
    text: "DDIM adds no noise on the way, so the trails are smooth, and where a point starts decides where it ends. The colours show the spot in which each one ends: look at the start, and they lie like slices of a cake. Now change the sampler to ancestral and look again.",
    state: { sampler: "ddim", at: 0 },
  },
  {
    title: "in a hurry",
    text: "A checkerboard in five calls of the network instead of 50. The edges are blurred and some points lie between the squares. Add calls one by one, and compare the three samplers in the table: from how many calls on does it no longer pay to wait?",
    state: { set: "checkerboard", sampler: "ddim", calls: 5 },
  },
  {
    title: "ask for a part",
    text: "Each moon is a class, and all points were asked for the upper one, with guidance 3: what the class changes in the network's answer is tripled. All points obey. But look at the right end of the moon, next to the other one: nobody dares to go there. Lower the guidance to 1, and the end fills up again.",
    state: { set: "moons", sampler: "ddim", label: 0, guidance: 3 },
  },
];
