package bench

import _ "embed" // the statements

var (
	//go:embed queries/by_hand.sql
	byHandSQL string
	//go:embed queries/change.sql
	changeSQL string
	//go:embed queries/publish.sql
	publishSQL string
	//go:embed queries/publish_each.sql
	publishEachSQL string
	//go:embed queries/publish_many.sql
	publishManySQL string
	//go:embed queries/insert.sql
	insertSQL string
	//go:embed queries/insert_many.sql
	insertManySQL string
	//go:embed queries/caught_up.sql
	caughtUpSQL string
	//go:embed queries/transactions.sql
	transactionsSQL string
	//go:embed queries/insert_by_function.sql
	insertByFunctionSQL string
)
