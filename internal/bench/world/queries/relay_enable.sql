select count(tide.relay_enable(p.name)) from tide.pipeline p where not p.enabled
