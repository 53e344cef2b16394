// Package nats is NATS JetStream at either far end of a pipeline: a sink that
// publishes events asynchronously with message ids, and a source that reads
// through a durable pull consumer. It refuses to resend on its own: a lost
// connection ends the session, and the engine starts over from the saved
// position, so that order is kept.
package nats
