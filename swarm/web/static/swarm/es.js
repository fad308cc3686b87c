/** The swarm tab in Spanish. */
export default {};
