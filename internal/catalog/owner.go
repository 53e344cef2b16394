package catalog

import (
	"errors"
	"fmt"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/pipeline"
)

// Owner proves that this relay may write on a pipeline's behalf. Everything
// written for a pipeline checks it in the same transaction.
type Owner struct {
	PipelineID int64
	Fence      int64
}

// OwnerOf is the ownership that a spec was claimed with.
func OwnerOf(spec pipeline.Spec) Owner { return Owner{PipelineID: spec.ID, Fence: spec.Fence} }

// ErrSuperseded is wrapped by what a relay gets that no longer owns a pipeline.
var ErrSuperseded = errors.New("another relay owns the pipeline now, or the server was restarted or replaced")

func superseded(doing string) error {
	return delivery.Superseded(fmt.Errorf("%s: %w", doing, ErrSuperseded))
}
