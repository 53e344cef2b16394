//go:build !linux

package disk

type holder struct{}

func hold(int64) (*holder, string, error) { return nil, "", ErrNotAllowed }

func (*holder) release() {}

func (*holder) resize(int64) error { return ErrNotAllowed }

func usedBytes(string) (int64, error) { return 0, ErrNotAllowed }
