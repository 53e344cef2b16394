// Package wire encodes events for transports and decodes what transports
// bring: CloudEvents 1.0 in binary and structured mode, and plain messages of
// strangers. It knows how a transport spells headers and nothing else of it.
package wire
