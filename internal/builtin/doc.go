// Package builtin is the one list of all technologies that are in the binary,
// and turns a pipeline's specification into a plan that the engine can run.
// It refuses to connect to anything.
package builtin
