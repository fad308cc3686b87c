/** The chat tab in English. */
export default {};
