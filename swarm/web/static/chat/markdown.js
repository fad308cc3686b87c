/** Markdown of a model, which nobody trusts, as nodes of which nothing runs or loads. */

import "/page/vendor/purify.js"; // A classic script: it leaves `DOMPurify` behind.
import hljs from "/page/vendor/highlight.js";
import markdownit from "/page/vendor/markdown-it.js";

/**
 * Characters of code that are coloured, and what no such code has: grammars take time by the square
 * of both, and for a word of 20,000 letters in some languages most of a minute.
 */
const MOST_COLOURED = 8_000;
const LONG_WORD = /\S{300}/;

const LINK = /^(https?:\/\/|mailto:)/i;

/** Characters that change the order of those after them: code may then not be what it seems. */
const REORDERING = /[\u202A-\u202E\u2066-\u2069]/g;

const LISTED = {
  ALLOWED_TAGS: (
    "p br hr h1 h2 h3 h4 h5 h6 strong em s del code pre blockquote ul ol li a span" +
    " table thead tbody tr th td"
  ).split(" "),
  ALLOWED_ATTR: ["href", "title", "class", "start", "align", "data-language"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const md = markdownit({ html: false, linkify: true, breaks: true, typographer: false });
// Names of files are no hosts: `main.rs` and `setup.py` end like domains.
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
md.validateLink = (address) => LINK.test(address.trim());

// A picture from elsewhere would tell its host who reads this, and when.
md.renderer.rules.image = (tokens, index) => {
  const token = tokens[index];
  const address = token.attrGet("src") ?? "";
  const text = md.utils.escapeHtml(token.content || address);
  return `<a class="picture" href="${md.utils.escapeHtml(address)}">${text}</a>`;
};
md.renderer.rules.fence = (tokens, index) =>
  block(tokens[index].content, tokens[index].info.trim().split(/\s+/)[0]);
md.renderer.rules.code_block = (tokens, index) => block(tokens[index].content, "");
// Styles are forbidden, so columns are aligned by an attribute.
for (const cell of ["th_open", "td_open"]) {
  md.renderer.rules[cell] = (tokens, index, options, env, self) => {
    const side = tokens[index].attrGet("style")?.match(/left|right|center/)?.[0];
    tokens[index].attrs = side ? [["align", side]] : null;
    return self.renderToken(tokens, index, options);
  };
}

/** A document fragment of a Markdown text. `words` name what is added: `{copy, code, table}`. */
export function rendered(source, words) {
  const fragment = globalThis.DOMPurify.sanitize(md.render(visible(source)), LISTED);
  for (const link of fragment.querySelectorAll("a")) guard(link);
  for (const code of fragment.querySelectorAll("pre")) frame(code, words);
  for (const table of fragment.querySelectorAll("table")) {
    wrap(table, scroller("table-wrap", words.table));
  }
  for (const each of fragment.querySelectorAll("p, li, blockquote, h1, h2, h3, h4, h5, h6, td, th")) {
    each.dir = "auto";
  }
  return fragment;
}

/** The text with every character that reorders others written out. */
export function visible(text) {
  return text.replace(REORDERING, (each) => `⟨U+${each.codePointAt(0).toString(16).toUpperCase()}⟩`);
}

function block(code, language) {
  const isColoured =
    hljs.getLanguage(language) !== undefined &&
    code.length <= MOST_COLOURED &&
    !LONG_WORD.test(code);
  const html = isColoured
    ? hljs.highlight(code, { language, ignoreIllegals: true }).value
    : md.utils.escapeHtml(code);
  const name = md.utils.escapeHtml(language.slice(0, 30));
  return `<pre data-language="${name}"><code class="hljs">${html}</code></pre>\n`;
}

function guard(link) {
  if (!LINK.test(link.getAttribute("href") ?? "")) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
  // Where it leads, whatever its text says.
  link.title = link.href;
}

/** Puts the language and a button above code; who holds the node listens for `data-copy`. */
function frame(pre, words) {
  const language = pre.dataset.language;
  const head = document.createElement("div");
  head.className = "code-head";
  const label = document.createElement("span");
  label.textContent = language || words.code;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-copy";
  button.dataset.copy = "";
  button.textContent = words.copy;
  head.append(label, button);
  const figure = document.createElement("div");
  figure.className = "code";
  figure.dir = "ltr";
  pre.replaceWith(figure);
  const scroll = scroller("code-scroll", language || words.code);
  scroll.append(pre);
  figure.append(head, scroll);
}

/** What can be scrolled sideways can be reached with the keyboard for it. */
function scroller(name, label) {
  const scroll = document.createElement("div");
  scroll.className = name;
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", label);
  return scroll;
}

function wrap(node, around) {
  node.replaceWith(around);
  around.append(node);
}
