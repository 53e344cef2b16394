// Package stdio reads and writes events as lines of JSON, one structured
// CloudEvent each: standard output, files and standard input, for trying and
// for pipes. It refuses to rotate files, and to remember what was read.
package stdio
