select to_regprocedure('tide.maintain()') is not null
