-- Findings of earlier runs of the source. Bound: 1. source, 2. run.
select
    count(*) as findings,
    count_if(severity = 'critical') as critical_findings,
    count_if(severity = 'warning') as warning_findings
from quality.anomalies
where
    source_system = ?
    and run_id <> ?
