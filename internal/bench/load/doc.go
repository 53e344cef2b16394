// Package load is who publishes and who watches while the bus is measured:
// sessions that commit as fast as they can, and flows of events that are timed
// from their commit to the inbox. It refuses to know of relays and brokers.
package load
