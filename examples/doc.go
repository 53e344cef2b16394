// Package examples holds small services in several languages that work an
// inbox and publish to an outbox by plain SQL. Its tests run each of them
// against a real PostgreSQL and kill it. Nothing imports it.
package examples
