-- Changes of configuration and ownership; the payload is the pipeline.
listen tide_relay
