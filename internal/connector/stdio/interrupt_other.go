//go:build !unix

package stdio

import "io"

// withInterrupts does nothing where there is no such call: what reads goes on
// when its session has ended, and ends with the process.
func withInterrupts(from io.Reader) io.Reader { return from }
