// Five steps through the field of scores.

/**
 * Each step: a title, what to look at, the state that it sets (the rest is as at the
 * start), steps of Langevin that follow, and whether the noise is annealed.
 */
export const TOUR = [
  {
    title: "a map for climbers",
    text: "The bright spots are where data are: eight small Gaussians on a ring. Each arrow is the score there, the direction in which the log-density rises fastest. Without noise every arrow points straight at the nearest spot, and the ones far out are the longest.",
    state: {},
  },
  {
    title: "noise fills the map",
    text: "Now Gaussian noise with σ = 1 has been added to the data. The spots have melted into a hill. Far from the data the arrows now agree on one thing: come towards the middle. Move the noise level up and down, and watch which details of the map survive.",
    state: { sigma: 1 },
  },
  {
    title: "stuck on the first hill",
    text: "200 particles start in the upper left corner and follow the arrows of the noiseless map: a small step uphill, a small random kick, again and again. They reach the nearest spot and stay there for good. Seven spots never see a visitor, and no number of further steps will help soon.",
    state: { drop: "there" },
    steps: 400,
  },
  {
    title: "start hot, cool slowly",
    text: "The same start, and this time the right-hand spots should get seven times as much as the others. Annealing begins on the map with σ = 3, where every particle can go anywhere, and lowers the noise a little at a time. Watch the filled bars reach their outlines.",
    state: { drop: "there", weights: "unequal" },
    anneal: true,
  },
  {
    title: "too long a step",
    text: "Without noise a spot is only 0.1 wide. With η = 0.025 a particle that is a little off overshoots the top by more than it was off, so each step throws it further. Read the limit below the picture, then move the noise level: with more noise, longer steps are safe.",
    state: { drop: "everywhere", eta: 0.025 },
    steps: 60,
  },
];
