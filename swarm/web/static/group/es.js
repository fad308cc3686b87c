/** The group tab in Spanish. */
export default {};
