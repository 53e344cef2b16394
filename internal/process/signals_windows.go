package process

import "os"

// Windows can only kill: stopping and asking end in the same.
var (
	freezeSignal    = os.Kill
	thawSignal      = os.Interrupt
	terminateSignal = os.Kill
)

// CanFreeze says whether this system can stop a process and let it go on.
const CanFreeze = false
