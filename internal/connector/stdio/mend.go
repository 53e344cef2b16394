package stdio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
)

// mendChunk is how much of a file's end is read at once.
const mendChunk = 64 << 10

// begins is how each line of ours begins.
const begins = `{"specversion":`

// mend makes a file end with a whole line. A torn line of ours is cut off: its
// event was not acknowledged and comes again. So are zeros, which a file system
// leaves where it had no time to write. Any other text without an end is
// somebody's, and gets one.
func mend(file *os.File, size int64) error {
	torn, err := tail(file, size)
	switch {
	case err != nil || len(torn) == 0:
		return err
	case bytes.HasPrefix(torn, []byte(begins)), bytes.HasPrefix([]byte(begins), torn), len(bytes.Trim(torn, "\x00")) == 0:
		if err := file.Truncate(size - int64(len(torn))); err != nil {
			return err
		}
	default:
		if _, err := file.Write([]byte("\n")); err != nil {
			return err
		}
	}
	return file.Sync()
}

// tail returns what stands behind the last line break.
func tail(file *os.File, size int64) ([]byte, error) {
	var torn []byte
	for end := size; end > 0; {
		from := max(0, end-mendChunk)
		chunk := make([]byte, end-from)
		if _, err := file.ReadAt(chunk, from); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if at := bytes.LastIndexByte(chunk, '\n'); at >= 0 {
			return slices.Concat(chunk[at+1:], torn), nil
		}
		torn = slices.Concat(chunk, torn)
		end = from
	}
	return torn, nil
}
