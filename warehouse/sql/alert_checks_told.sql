-- Whether an alert of the run says already that checks failed. Bound: 1. run.
select count(*) as alerts
from quality.alerts
where run_id = ? and failed_checks > 0
