-- Bound: 1. sender.
select alert_id
from quality.alerts
where claimed_by = ?
