-- Bound: 1. run.
select
    severity,
    count(*) as findings
from quality.anomalies
where run_id = ?
group by severity
