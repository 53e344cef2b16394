-- The placeholder is filled in by the program: utility statements take no parameters.
alter role postgres password '%s';
