/** The chat tab in Spanish. */
export default {};
