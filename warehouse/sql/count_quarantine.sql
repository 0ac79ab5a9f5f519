-- Bound: 1. and 2. source or ''.
select count(*)
from ops.quarantine
where ? = '' or source = ?
