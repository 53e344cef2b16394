package builtin

import (
	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/connector/postgres"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/wire"
)

func pgInboxTechnology() Technology {
	return Technology{
		Name: "pg_inbox", Title: "An inbox of another database", FarEnd: "the other database",
		SinkFields:  postgres.InboxFields,
		TemplateKey: "inbox", Safe: postgres.SafeName, Destination: postgres.CheckName, Spelling: wire.NATS,
		Sink: func(values config.Values, ends Ends) (relay.Sink, error) {
			return postgres.NewInboxSink(values, postgresDeps(ends))
		},
	}
}

func pgOutboxTechnology() Technology {
	return Technology{
		Name: "pg_outbox", Title: "An outbox of another database", FarEnd: "the other database",
		SinkFields:  postgres.OutboxFields,
		TemplateKey: "outbox", Safe: postgres.SafeName, Destination: postgres.CheckName, Spelling: wire.NATS,
		Sink: func(values config.Values, ends Ends) (relay.Sink, error) {
			return postgres.NewOutboxSink(values, postgresDeps(ends))
		},
	}
}

func postgresDeps(ends Ends) postgres.Deps {
	return postgres.Deps{Templates: ends.Templates, Decode: wire.Binary{Spelling: wire.NATS()}.Decode}
}
