-- Bound: 1. run, 2. most rows.
select
    severity,
    kind,
    score,
    reason
from quality.anomalies
where
    run_id = ?
    and severity in ('critical', 'warning')
order by iff(severity = 'critical', 0, 1), money_at_risk desc nulls last, score desc, anomaly_id asc
limit ?
