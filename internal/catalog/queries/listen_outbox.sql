-- Wake-ups of readers; the payload is the outbox.
listen tide_outbox
