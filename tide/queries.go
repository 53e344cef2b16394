package tide

import _ "embed" // the statements are files of their own

// Every statement that this package runs. Arrays and JSON go as text, so that
// any driver can send them.
var (
	//go:embed queries/publish.sql
	publishSQL string
	//go:embed queries/publish_many.sql
	publishManySQL string
	//go:embed queries/claim.sql
	claimSQL string
	//go:embed queries/complete.sql
	completeSQL string
	//go:embed queries/complete_many.sql
	completeManySQL string
	//go:embed queries/extend_many.sql
	extendManySQL string
	//go:embed queries/release_many.sql
	releaseManySQL string
	//go:embed queries/fail.sql
	failSQL string
	//go:embed queries/session_pid.sql
	sessionPIDSQL string
)
