// Package tidetest helps to test code that publishes to a pg_tide outbox or
// works an inbox, on a real PostgreSQL: databases that last for one test,
// messages delivered by hand as a relay would, and waiting by signal.
//
// It is for tests only. It creates and drops databases on the server that it
// is given, and touches none that it has not created.
package tidetest
