//go:build !linux

package disk

type holder struct{}

func hold(int64) (*holder, string, error) { return nil, "", ErrNotAllowed }

func (*holder) release() {}

func full(error) bool { return false }
