/** The models that the gateway serves. */

import { useEffect, useState } from "/page/vendor/preact.js";

/** Milliseconds until the gateway is asked again, when it did not tell, and when it did. */
const AGAIN = 4000;
const LATER = 60_000;

/** `{list, error}`: the list is empty until it is known; `error` is there while the gateway does not tell. */
export function useModels(api) {
  const [models, setModels] = useState({ list: [], error: null });
  useEffect(() => {
    const leaving = new AbortController();
    let timer = null;
    const look = async () => {
      try {
        const { data } = await api("/v1/models", { signal: leaving.signal });
        setModels({ list: data, error: null });
        timer = setTimeout(look, LATER); // Others may be served by then.
      } catch (error) {
        if (error.name === "AbortError") return;
        setModels(({ list }) => ({ list, error }));
        timer = setTimeout(look, AGAIN);
      }
    };
    look();
    return () => {
      leaving.abort();
      clearTimeout(timer);
    };
  }, [api]);
  return models;
}
