// Package transform filters and rewrites events with expressions, and makes
// destinations from templates. Everything is compiled once, when a pipeline is
// built; JSON is parsed only where an expression or template asks for it.
package transform
