//go:build !tide_clock

package fault

// FollowClock does nothing in this build.
func FollowClock() {}
