package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// WriteVariable is the environment variable that makes the suites write their
// records, where it is "write"; else they compare them.
const WriteVariable = "PG_TIDE_CONFORMANCE"

// Record is what one end of a technology passed. It is kept beside the
// technology, under testdata/conformance.
type Record struct {
	Technology string         `json:"technology"`
	End        string         `json:"end"`
	Variant    string         `json:"variant,omitempty"`
	Cases      []RecordedCase `json:"cases"`
}

// RecordedCase is one case: passed, or not asked for since the technology
// lacks what it is about.
type RecordedCase struct {
	Guarantee string `json:"guarantee"`
	Case      string `json:"case"`
	Lacks     Need   `json:"lacks,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// record is what stands in the file once every case has passed: nothing in it
// depends on how the run went, for a run in which a case fails writes nothing.
func (s *Subject[F, H]) record(cases []Case[F, H]) Record {
	r := Record{Technology: s.Technology, End: s.End, Variant: s.Variant}
	for i := range cases {
		one := RecordedCase{Guarantee: cases[i].Guarantee, Case: cases[i].Name}
		one.Lacks, one.Reason = s.Lacks.first(cases[i].Needs)
		r.Cases = append(r.Cases, one)
	}
	return r
}

// path names the technology where the folder is not called like it: several
// may share one.
func (s *Subject[F, H]) path() string {
	name := s.End
	if here, err := os.Getwd(); err != nil || filepath.Base(here) != s.Technology {
		name = s.Technology + "-" + name
	}
	if s.Variant != "" {
		name += "-" + s.Variant
	}
	return filepath.Join("testdata", "conformance", name+".json")
}

// keepRecord compares the record with its file, or writes it when all of the
// cases ran in this very run, and passed.
func (s *Subject[F, H]) keepRecord(t testing.TB, cases []Case[F, H], passed int) {
	t.Helper()
	text, err := json.MarshalIndent(s.record(cases), "", "  ")
	if err != nil {
		t.Fatalf("write the record: %v", err)
	}
	text = append(text, '\n')
	current, err := os.ReadFile(s.path())
	if err == nil && bytes.Equal(current, text) {
		return
	}
	if os.Getenv(WriteVariable) != "write" {
		t.Errorf("%s is not what these features and cases make it: write it by `make conformance`", s.path())
		return
	}
	if t.Failed() || passed != len(cases) {
		t.Errorf("%s is not written: %d of %d cases ran and passed", s.path(), passed, len(cases))
		return
	}
	if err := writeFile(s.path(), text); err != nil {
		t.Errorf("write the record: %v", err)
	}
}

func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make a place for %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644)
}
