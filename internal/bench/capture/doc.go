// Package capture measures what a captured table's writers pay, beside a table
// without triggers and one with a row trigger written by hand, in turns. It
// consists of a benchmark, and refuses to be linked into the product:
//
//	go test ./internal/bench/capture -run '^$' -bench . -benchtime 20x
package capture
