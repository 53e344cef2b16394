// Package archtest holds the rules of ARCHITECTURE.md as tests: who may import
// whom, how long a function or file may be, what every package must say of
// itself. It contains tests only, and refuses to be imported.
package archtest
