// Package message holds what flows through a pipeline: events, their encoded
// form, and how far a forward pipeline has got. It knows no broker, no SQL
// and no engine, and refuses to decide what happens to a message.
package message
