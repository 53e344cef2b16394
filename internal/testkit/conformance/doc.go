// Package conformance is what the suites of sinks and of sources share: the
// list of what a case may need of a far end, how cases are run, and the record
// of what a technology passed, which becomes docs/technologies.md. It refuses
// to leave a case out in silence: a technology has what a case needs, or says
// in words that it has no such thing.
package conformance
