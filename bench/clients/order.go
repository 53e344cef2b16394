package clients

// Order is what each of them is told of.
type Order struct {
	ID    string  `json:"order_id"`
	Total float64 `json:"total"`
}

const (
	insertOrder   = `insert into orders (id, total) values ($1, $2)`
	insertPayment = `insert into payments (order_id, total) values ($1, $2)`
)
