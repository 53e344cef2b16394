select tide.maintain()
