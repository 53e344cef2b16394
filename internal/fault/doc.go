// Package fault lets tests break the relay at a named point, and make it wrong
// on purpose. All of it is empty, and compiles to nothing, unless the build
// tag tide_faults is given; a binary for users never has it. It refuses to
// decide what should happen afterwards: that is for the tests to assert.
//
// In a tagged binary the environment chooses:
//
//	PG_TIDE_FAULT   what happens where: point[:passage[:action]], several divided by commas
//	PG_TIDE_MUTANT  which mutations are on, divided by commas
//
// The passage counts from 1, over the whole process. The action is exit (the
// default: end at once, as a crash does), stop (the process stops, as by
// SIGSTOP, until SIGCONT), hang (whoever passes waits for ever) or note
// (nothing but a line in the log, for a test that waits for the passage).
//
// Another tag, tide_clock, lets tests set the wall clock of a running relay. It
// needs the overlay that internal/torture/clock writes.
package fault
