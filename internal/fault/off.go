//go:build !tide_faults

package fault

// At does nothing in this build.
func At(Point) {}

// Mutant returns false in this build, so that what it would turn on is not
// even compiled.
func Mutant(Mutation) bool { return false }
