// Package postgres is the far end of a pipeline that leads straight to another
// database with pg_tide, with no broker between: its events become messages of
// an inbox there, or are published to an outbox there. It refuses to store an
// event id twice, and to keep a transaction open here or there meanwhile.
package postgres
