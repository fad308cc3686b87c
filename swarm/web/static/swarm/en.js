/** The swarm tab in English. */
export default {};
