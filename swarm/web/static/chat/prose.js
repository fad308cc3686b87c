/** A model's text as it grows: what is finished stays as it is, the end is rendered again. */

import { Component, html } from "/page/vendor/preact.js";
import { copy } from "/page/lib/clipboard.js";
import { rendered, visible } from "/page/chat/markdown.js";
import { Segmenter } from "/page/chat/segments.js";

/** Segments that are added at a time, so that the page stays awake while a long text is opened. */
const AT_ONCE = 24;

/** A text in Markdown. A text that does not go on from the one before needs another `key`. */
export class Prose extends Component {
  #segmenter = new Segmenter();
  #numShown = AT_ONCE;

  shouldComponentUpdate({ text, t }) {
    return text !== this.props.text || t !== this.props.t;
  }

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  render({ text, t }) {
    const segments = this.#segmenter.push(text);
    this.#showMore(segments.length);
    return html`<div class=${segments.length > AT_ONCE ? "prose long" : "prose"}>
      ${segments
        .slice(0, this.#numShown)
        .map(({ source, isPlain }, index) =>
          isPlain
            ? html`<${Plain} key=${index} source=${source} />`
            : html`<${Segment} key=${`${index}m`} source=${source} t=${t} />`,
        )}
    </div>`;
  }

  #showMore(length) {
    clearTimeout(this.timer);
    if (this.#numShown >= length) return;
    this.timer = setTimeout(() => {
      this.#numShown += AT_ONCE;
      this.forceUpdate();
    });
  }
}

class Segment extends Component {
  shouldComponentUpdate({ source, t }) {
    return source !== this.props.source || t !== this.props.t;
  }

  componentDidMount() {
    this.#show();
  }

  componentDidUpdate() {
    this.#show();
  }

  render() {
    return html`<div class="segment" ref=${(node) => (this.node = node)} onClick=${this.#click} />`;
  }

  #show() {
    const { source, t } = this.props;
    const words = { copy: t("copy"), code: t("code"), table: t("table") };
    this.node.replaceChildren(rendered(source, words));
  }

  #click = async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const { t } = this.props;
    const code = button.closest(".code").querySelector("pre").textContent;
    button.textContent = t((await copy(code)) ? "copied" : "copy_failed");
    setTimeout(() => (button.textContent = t("copy")), 1500);
  };
}

class Plain extends Component {
  shouldComponentUpdate({ source }) {
    return source !== this.props.source;
  }

  render({ source }) {
    return html`<div class="plain" dir="auto">${visible(source)}</div>`;
  }
}
