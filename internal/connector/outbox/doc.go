// Package outbox reads an outbox without losing what commits late, and keeps
// the position of a pipeline. It refuses to deliver anything, and to wait for
// anybody's open transaction.
package outbox
