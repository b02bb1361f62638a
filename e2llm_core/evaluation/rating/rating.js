"use strict";
const form = document.querySelector("form");
const save = document.getElementById("save");
const progress = document.getElementById("progress");
const study = form.dataset.study;
const examples = [...document.querySelectorAll("[data-example]")].map((section) => section.dataset.example);
const scales = form.dataset.scales.split(" ");

const chosen = (name) => {
  const value = new FormData(form).get(name);
  return value === null ? null : Number(value);
};

function answerOf(example) {
  const answer = { example, preference: chosen(`${example}.preference`) };
  for (const scale of scales) answer[scale] = [1, 2].map((place) => chosen(`${example}.${scale}.${place}`));
  return answer;
}

const isWhole = (answer) => Object.values(answer).flat().every((value) => value !== null);

function collected() {
  return { study, rater: form.elements.rater.value.trim(), answers: examples.map(answerOf) };
}

function show() {
  const { rater, answers } = collected();
  const done = answers.filter(isWhole).length;
  progress.textContent = `${done} of ${answers.length} examples rated` + (rater ? "" : "; your code is missing");
  save.disabled = done < answers.length || !rater;
}

// Choices survive a reload, unless the browser has no storage for local files.
function remember() {
  try {
    localStorage.setItem(`rating ${study}`, JSON.stringify([...new FormData(form)]));
  } catch {}
}

// A saved file is the rater's copy: the next rater on this computer starts with an empty page.
function forget() {
  try {
    localStorage.removeItem(`rating ${study}`);
  } catch {}
}

function restore() {
  try {
    for (const [name, value] of JSON.parse(localStorage.getItem(`rating ${study}`) ?? "[]")) {
      const field = form.elements[name];
      if (field) field.value = value;
    }
  } catch {}
}

form.addEventListener("change", () => { remember(); show(); });
form.addEventListener("input", show);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (save.disabled) return;
  const given = collected();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(given, null, 2) + "\n"], { type: "application/json" }));
  link.download = `${study}-${given.rater.replace(/[^A-Za-z0-9_-]+/g, "-")}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
  forget();
});
restore();
show();
