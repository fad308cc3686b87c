/** The group tab in English. */
export default {};
