// Package transform filters and rewrites events with expressions, and makes
// destinations from templates. Everything is compiled once, when a pipeline is
// built; JSON is parsed only where an expression or template asks for it. It
// refuses to let an event leave the operator's prefix, fill the memory, or
// show its payload in an error.
package transform
