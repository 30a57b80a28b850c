// Five steps that show what the demo of the small GPT can do.

/**
 * Each step: a title, what to look at, the state that it sets (the rest is as at the
 * start), how many letters the model writes then, and whether a head is looked for.
 */
export const TOUR = [
  {
    title: "one question",
    text: "The prompt is the name of a speaker. The table shows the only thing that a GPT ever answers: how likely is each letter to come next? Press “Next letter” a few times. Each time one letter is drawn from the table and appended, and the question is asked again.",
    state: { text: "First Citizen:\n" },
  },
  {
    title: "always the best letter",
    text: "The temperature is now 0, so the likeliest letter is taken each time, and nothing is drawn. The text is safe and dull. Press “Write” and see it run in circles. A likely letter each time does not make a likely text.",
    state: { text: "First Citizen:\n", prompt: 15, temperature: 0 },
    letters: 45,
  },
  {
    title: "too much freedom",
    text: "At temperature 2 all logits are halved, and unlikely letters get their chance. The filled bars are flatter than the outlines. One odd letter leads to the next, for the model must go on from whatever stands there. Dark letters are those that surprised it.",
    state: { text: "First Citizen:\n", prompt: 15, temperature: 2 },
    letters: 45,
  },
  {
    title: "cut off the tail",
    text: "The same seed at temperature 1, but top-p keeps only the likeliest letters that together reach 80 %. The others are cut, as the table says. Where the model is sure, one letter is left; where it is not, many are. Now move top-k to 3: it keeps three, sure or not.",
    state: { text: "First Citizen:\n", prompt: 15, temperature: 1, topP: 0.8 },
    letters: 45,
  },
  {
    title: "where it looks",
    text: "Of all heads, this one gives most of its weight to the letter before: its map has a bright line beside the diagonal. The letters are shaded by where the framed one looks. Choose other heads, or move “Look at letter”. Some look far back, to where the word or the line began.",
    state: { text: "First Citizen:\nSpeak, speak, and let us hear the king.", shade: "attention" },
    look: "before",
  },
];
